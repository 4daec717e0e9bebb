// SPDX-License-Identifier: MIT
#include "net/websocket.h"
#include <openssl/evp.h>

enum { KEY_MAX = 128, SHA1_LEN = 20 };

int net_websocket_accept(struct str key, char accept[NET_WEBSOCKET_ACCEPT_LEN])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_MAX + sizeof guid];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned char encoded[NET_WEBSOCKET_ACCEPT_LEN + 1];
    unsigned len = 0;
    if (key.len > KEY_MAX) {
        return ERR_SYSTEM;
    }
    if (key.len > 0) {
        memcpy(text, key.p, key.len);
    }
    memcpy(text + key.len, guid, sizeof guid - 1);
    if (EVP_Digest(text, key.len + sizeof guid - 1, digest, &len, EVP_sha1(), NULL) != 1 ||
        len != SHA1_LEN) {
        return ERR_SYSTEM;
    }
    EVP_EncodeBlock(encoded, digest, SHA1_LEN);
    memcpy(accept, encoded, NET_WEBSOCKET_ACCEPT_LEN);
    return 0;
}
