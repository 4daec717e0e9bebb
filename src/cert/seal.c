// SPDX-License-Identifier: MIT
#include "cert/seal.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_LEN = 32,
    KEY_MAX = 64, // keys of a file
    FILE_MAX = 64 * 1024,
    NONCE_LEN = 12,
    TAG_LEN = 16,
    ID_LEN = 8, // hexadecimal digits
    CONTEXT_MAX = 512,
    SEALED_MAX = 1 << 20,
};

#define PREFIX STR("pm1:")

struct seal_key {
    uint8_t key[KEY_LEN];
    char id[ID_LEN + 1];
};

struct seal {
    unsigned count;
    struct seal_key keys[KEY_MAX];
};

// ---- the file ----

static int from_hex(struct str text, uint8_t to[KEY_LEN])
{
    for (unsigned i = 0; i < KEY_LEN; i++) {
        int high = ascii_hex(text.p[2 * i]);
        int low = ascii_hex(text.p[2 * i + 1]);
        if (high < 0 || low < 0) {
            return ERR_INVALID;
        }
        to[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

// Exactly (RFC 4648 3.5): no white space, padding only at the end, no bits in the last digit that stand for
// nothing. Returns the length, or -1. to: room for len / 4 * 3.
static ssize_t from_base64(struct str text, uint8_t *to)
{
    if (text.len == 0 || text.len % 4 != 0 || text.len > SEALED_MAX * 2) {
        return -1;
    }
    size_t padding = (text.p[text.len - 1] == '=') + (text.p[text.len - 2] == '=');
    for (size_t i = 0; i < text.len - padding; i++) {
        char c = text.p[i];
        bool is_good = ascii_is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
                       c == '+' || c == '/';
        if (!is_good) {
            return -1;
        }
    }
    int len = EVP_DecodeBlock(to, (const unsigned char *)text.p, (int)text.len);
    for (size_t i = 0; i < padding && len > 0; i++) {
        if (to[len - 1 - (int)i] != 0) {
            return -1;
        }
    }
    return len < 0 ? -1 : len - (ssize_t)padding;
}

static int read_key(struct seal *seal, struct str line)
{
    struct seal_key *key = &seal->keys[seal->count];
    uint8_t bytes[48];
    if (line.len == 2 * KEY_LEN && from_hex(line, key->key) == 0) {
        // hexadecimal
    } else if (line.len == 44 && from_base64(line, bytes) == KEY_LEN) {
        memcpy(key->key, bytes, KEY_LEN);
        OPENSSL_cleanse(bytes, sizeof bytes);
    } else {
        return ERR_INVALID;
    }
    static const char digits[] = "0123456789abcdef";
    uint8_t hash[SHA256_DIGEST_LENGTH];
    SHA256(key->key, KEY_LEN, hash);
    for (unsigned i = 0; i < ID_LEN / 2; i++) {
        key->id[2 * i] = digits[hash[i] >> 4];
        key->id[2 * i + 1] = digits[hash[i] & 15];
    }
    seal->count++;
    return 0;
}

static int read_lines(struct seal *seal, const char *path, struct str text,
                      struct problems *problems)
{
    struct str line;
    for (unsigned number = 1; text.len > 0; number++) {
        struct str rest;
        str_split(text, '\n', &line, &rest);
        text = rest;
        if (line.len > 0 && line.p[line.len - 1] == '\r') {
            line.len--;
        }
        line = str_trim(line);
        if (line.len == 0 || line.p[0] == '#') {
            continue;
        }
        if (seal->count == KEY_MAX || read_key(seal, line) != 0) {
            return problems_add(
                problems, ERR_INVALID, "store.encryption_key_file", "%s:%u: %s", path, number,
                seal->count == KEY_MAX ? "at most 64 keys"
                                       : "a key is 64 hexadecimal digits, or base64 of 32 bytes");
        }
    }
    if (seal->count == 0) {
        return problems_add(problems, ERR_INVALID, "store.encryption_key_file",
                            "%s: there is no key in it", path);
    }
    return 0;
}

static int read_file(int fd, const char *path, char *text, size_t *len, struct problems *problems)
{
    struct stat about;
    const char *what = NULL;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        what = "not a regular file";
    } else if ((about.st_mode & 077) != 0) {
        what = "others than its owner can read it (its mode must be 0600 or 0400)";
    } else if (about.st_size > FILE_MAX) {
        what = "larger than 64 KiB";
    }
    if (what != NULL) {
        return problems_add(problems, ERR_INVALID, "store.encryption_key_file", "%s: %s", path,
                            what);
    }
    *len = 0;
    ssize_t some;
    while (*len < FILE_MAX && (some = read(fd, text + *len, FILE_MAX - *len)) != 0) {
        if (some < 0) {
            return problems_add(problems, ERR_SYSTEM, "store.encryption_key_file", "%s: %s", path,
                                strerror(errno));
        }
        *len += (size_t)some;
    }
    return 0;
}

int seal_open_file(struct seal **out, const char *path, struct problems *problems)
{
    struct seal *seal = calloc(1, sizeof *seal);
    if (seal == NULL) {
        return ERR_MEMORY;
    }
    if (path[0] == 0) {
        *out = seal;
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        seal_free(&seal);
        return problems_add(problems, ERR_SYSTEM, "store.encryption_key_file", "%s: %s", path,
                            strerror(errno));
    }
    char *text = malloc(FILE_MAX);
    size_t len = 0;
    int err = text == NULL ? ERR_MEMORY : read_file(fd, path, text, &len, problems);
    if (err == 0) {
        err = read_lines(seal, path, str_make(text, len), problems);
    }
    if (text != NULL) {
        OPENSSL_cleanse(text, FILE_MAX);
    }
    free(text);
    close(fd);
    if (err != 0) {
        seal_free(&seal);
        return err;
    }
    *out = seal;
    return 0;
}

void seal_free(struct seal **place)
{
    if (*place != NULL) {
        OPENSSL_cleanse(*place, sizeof **place);
        free(*place);
    }
    *place = NULL;
}

bool seal_has_key(const struct seal *seal)
{
    return seal != NULL && seal->count > 0;
}

// ---- closing ----

static bool encrypt(const struct seal_key *key, struct str context, struct str plain, uint8_t *to)
{
    uint8_t *text = to + NONCE_LEN;
    int len = 0;
    int rest = 0;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    bool is_done =
        cipher != NULL && RAND_bytes(to, NONCE_LEN) == 1 &&
        EVP_EncryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key->key, to) == 1 &&
        EVP_EncryptUpdate(cipher, NULL, &len, (const unsigned char *)context.p, (int)context.len) ==
            1 &&
        EVP_EncryptUpdate(cipher, text, &len, (const unsigned char *)plain.p, (int)plain.len) ==
            1 &&
        EVP_EncryptFinal_ex(cipher, text + len, &rest) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, text + plain.len) == 1;
    EVP_CIPHER_CTX_free(cipher);
    return is_done;
}

int seal_close(const struct seal *seal, struct str context, struct str plain, struct buf *to)
{
    if (!seal_has_key(seal)) {
        buf_put(to, plain);
        return to->failed ? ERR_MEMORY : 0;
    }
    if (plain.len > SEALED_MAX || context.len > CONTEXT_MAX) {
        return ERR_SYSTEM;
    }
    const struct seal_key *key = &seal->keys[0];
    size_t len = NONCE_LEN + plain.len + TAG_LEN;
    uint8_t *bytes = malloc(len);
    if (bytes == NULL) {
        return ERR_MEMORY;
    }
    if (!encrypt(key, context, plain, bytes)) {
        free(bytes);
        return ERR_SYSTEM;
    }
    buf_put(to, PREFIX);
    buf_put(to, str_make(key->id, ID_LEN));
    buf_put_char(to, ':');
    size_t text_len = (len + 2) / 3 * 4;
    char *text = buf_reserve(to, text_len + 1); // EVP_EncodeBlock terminates
    if (text != NULL) {
        EVP_EncodeBlock((unsigned char *)text, bytes, (int)len);
        to->len += text_len;
    }
    free(bytes);
    return to->failed ? ERR_MEMORY : 0;
}

// ---- opening ----

static bool decrypt(const struct seal_key *key, struct str context, uint8_t *bytes, size_t len,
                    uint8_t *to)
{
    size_t text_len = len - NONCE_LEN - TAG_LEN;
    int some = 0;
    int rest = 0;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    bool is_done = cipher != NULL &&
                   EVP_DecryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key->key, bytes) == 1 &&
                   EVP_DecryptUpdate(cipher, NULL, &some, (const unsigned char *)context.p,
                                     (int)context.len) == 1 &&
                   EVP_DecryptUpdate(cipher, to, &some, bytes + NONCE_LEN, (int)text_len) == 1 &&
                   EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG_LEN,
                                       bytes + NONCE_LEN + text_len) == 1 &&
                   EVP_DecryptFinal_ex(cipher, to + some, &rest) == 1;
    EVP_CIPHER_CTX_free(cipher);
    return is_done;
}

static const struct seal_key *find_key(const struct seal *seal, struct str id)
{
    for (unsigned i = 0; seal != NULL && i < seal->count; i++) {
        if (str_eq(id, str_make(seal->keys[i].id, ID_LEN))) {
            return &seal->keys[i];
        }
    }
    return NULL;
}

static int open_text(const struct seal_key *key, struct str context, struct str text,
                     struct buf *to)
{
    uint8_t *bytes = malloc(text.len / 4 * 3 + 1);
    if (bytes == NULL) {
        return ERR_MEMORY;
    }
    ssize_t len = from_base64(text, bytes);
    int err = len < NONCE_LEN + TAG_LEN ? ERR_INVALID : 0;
    size_t plain_len = err == 0 ? (size_t)len - NONCE_LEN - TAG_LEN : 0;
    uint8_t *plain = err == 0 ? (uint8_t *)buf_reserve(to, plain_len + 1) : NULL;
    if (err == 0 && plain == NULL) {
        err = ERR_MEMORY;
    }
    if (err == 0 && !decrypt(key, context, bytes, (size_t)len, plain)) {
        OPENSSL_cleanse(plain, plain_len);
        err = ERR_INVALID;
    }
    to->len += err == 0 ? plain_len : 0;
    free(bytes);
    return err;
}

int seal_open(const struct seal *seal, struct str context, struct str sealed, struct buf *to)
{
    if (!str_starts(sealed, PREFIX)) {
        buf_put(to, sealed);
        return to->failed ? ERR_MEMORY : 0;
    }
    struct str rest = str_from(sealed, PREFIX.len);
    if (rest.len < ID_LEN + 1 || rest.p[ID_LEN] != ':' || context.len > CONTEXT_MAX) {
        return ERR_INVALID;
    }
    const struct seal_key *key = find_key(seal, str_sub(rest, 0, ID_LEN));
    return key == NULL ? ERR_NOT_FOUND : open_text(key, context, str_from(rest, ID_LEN + 1), to);
}

bool seal_is_current(const struct seal *seal, struct str sealed)
{
    if (!seal_has_key(seal)) {
        return !str_starts(sealed, PREFIX);
    }
    struct str id = str_sub(sealed, PREFIX.len, ID_LEN);
    return str_starts(sealed, PREFIX) && str_eq(id, str_make(seal->keys[0].id, ID_LEN));
}
