// SPDX-License-Identifier: MIT
// The chunked coding (RFC 9112 7.1):
//
//   chunk     = 1*HEXDIG *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) CRLF data CRLF
//
// Extensions are read by their grammar and dropped: what two readers could see differently (an LF in
// quotes, a size with something behind it) is refused.
#include "http/h1/h1_parse.h"
#include "http/chars.h"

enum state {
    SIZE,          // hexadecimal digits
    BLANKS,        // white space behind a size or a value: only ';' may follow
    NAME_BEGIN,    // behind ';'
    NAME,          //
    NAME_BLANKS,   // behind a name and white space: '=' or ';' may follow
    VALUE_BEGIN,   // behind '='
    VALUE,         // a token
    QUOTED,        // in quotes
    QUOTED_ESCAPE, // behind '\' in quotes
    QUOTED_END,    // behind the closing quote
    LINE_LF,       // the CR of the size line was read
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILERS,
};

enum { DIGITS_MAX = 16 };

void h1_chunked_init(struct h1_chunked *chunked)
{
    memset(chunked, 0, sizeof(*chunked));
    chunked->state = SIZE;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// What a size, a name or a value may be followed by, besides more of itself.
static int take_end(char c, enum state blanks)
{
    switch (c) {
    case ';':
        return NAME_BEGIN;
    case '\r':
        return LINE_LF;
    case ' ':
    case '\t':
        return (int)blanks;
    default:
        return ERR_CHUNK_EXTENSION;
    }
}

static int take_size(struct h1_chunked *chunked, char c)
{
    int digit = ascii_hex(c);
    if (digit < 0) {
        int next = take_end(c, BLANKS);
        return chunked->digits == 0 || next < 0 ? ERR_CHUNK_SIZE : next;
    }
    // Leading zeros count as well. The sum of what was read must fit an offset.
    if (chunked->digits == DIGITS_MAX || chunked->left > (uint64_t)INT64_MAX >> 4) {
        return ERR_CHUNK_SIZE;
    }
    chunked->digits++;
    chunked->left = chunked->left << 4 | (uint64_t)digit;
    return SIZE;
}

// One byte of extensions: the next state, or ERR_CHUNK_EXTENSION.
static int take_extension(enum state state, char c)
{
    bool token = char_is(c, CHAR_TOKEN);
    switch (state) {
    case BLANKS:
        return is_blank(c) ? BLANKS : c == ';' ? NAME_BEGIN : ERR_CHUNK_EXTENSION;
    case NAME_BEGIN:
        return token ? NAME : is_blank(c) ? NAME_BEGIN : ERR_CHUNK_EXTENSION;
    case NAME:
        return token ? NAME : c == '=' ? VALUE_BEGIN : take_end(c, NAME_BLANKS);
    case NAME_BLANKS:
        return c == '=' ? VALUE_BEGIN : c == '\r' ? ERR_CHUNK_EXTENSION : take_end(c, NAME_BLANKS);
    case VALUE_BEGIN:
        return token ? VALUE : c == '"' ? QUOTED : is_blank(c) ? VALUE_BEGIN : ERR_CHUNK_EXTENSION;
    case VALUE:
        return token ? VALUE : take_end(c, BLANKS);
    case QUOTED:
        return c == '"'                 ? QUOTED_END
               : c == '\\'              ? QUOTED_ESCAPE
               : char_is(c, CHAR_VALUE) ? QUOTED
                                        : ERR_CHUNK_EXTENSION;
    case QUOTED_ESCAPE:
        return char_is(c, CHAR_VALUE) ? QUOTED : ERR_CHUNK_EXTENSION;
    case QUOTED_END:
        return take_end(c, BLANKS);
    case SIZE:
    case LINE_LF:
    case DATA:
    case DATA_CR:
    case DATA_LF:
    case TRAILERS:
        break;
    }
    return ERR_CHUNK_EXTENSION;
}

// Ends the size line: the data, or the trailer section, comes next.
static int end_line(struct h1_chunked *chunked, char c)
{
    if (c != '\n') {
        return ERR_CHUNK_SIZE;
    }
    chunked->digits = 0;
    chunked->extension_len = 0;
    return chunked->left == 0 ? TRAILERS : DATA;
}

// The state after one byte that is not data, or a negative ERR_….
static int take_byte(struct h1_chunked *chunked, char c)
{
    enum state state = (enum state)chunked->state;
    switch (state) {
    case SIZE:
        return take_size(chunked, c);
    case LINE_LF:
        return end_line(chunked, c);
    case DATA_CR:
        return c == '\r' ? DATA_LF : ERR_CHUNK_END;
    case DATA_LF:
        return c == '\n' ? SIZE : ERR_CHUNK_END;
    case BLANKS:
    case NAME_BEGIN:
    case NAME:
    case NAME_BLANKS:
    case VALUE_BEGIN:
    case VALUE:
    case QUOTED:
    case QUOTED_ESCAPE:
    case QUOTED_END:
        if (++chunked->extension_len > H1_CHUNK_EXTENSION_MAX) {
            return ERR_CHUNK_EXTENSION;
        }
        return take_extension(state, c);
    case DATA:
    case TRAILERS:
        break;
    }
    return ERR_CHUNK_SIZE;
}

int h1_chunked_next(struct h1_chunked *chunked, const char *p, size_t len, size_t *used,
                    struct str *data)
{
    *data = str_make(p, 0);
    size_t i = 0;
    while (i < len && chunked->state != TRAILERS) {
        if (chunked->state == DATA) {
            size_t left = len - i;
            size_t take = left < chunked->left ? left : (size_t)chunked->left;
            *data = str_make(p + i, take);
            *used = i + take;
            chunked->left -= take;
            if (chunked->left == 0) {
                chunked->state = DATA_CR;
            }
            return H1_CHUNKED_DATA;
        }
        int next = take_byte(chunked, p[i]);
        if (next < 0) {
            *used = i;
            return next;
        }
        chunked->state = (uint8_t)next;
        i++;
    }
    *used = i;
    return chunked->state == TRAILERS ? H1_CHUNKED_TRAILERS : H1_CHUNKED_MORE;
}
