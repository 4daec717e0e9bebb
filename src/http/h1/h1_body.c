// SPDX-License-Identifier: MIT
#include "http/h1/h1_body.h"

void h1_body_init(struct h1_body *body, const struct http_head *head)
{
    body->kind = (uint8_t)head->body;
    body->left = head->body == BODY_LENGTH ? head->body_len : 0;
    body->in_trailers = false;
    if (head->body == BODY_CHUNKED) {
        h1_chunked_init(&body->chunked);
    }
}

bool h1_body_is_empty(const struct h1_body *body)
{
    return body->kind == BODY_NONE || (body->kind == BODY_LENGTH && body->left == 0);
}

static int next_trailers(const char *p, size_t len, struct h1_body_result *result)
{
    ptrdiff_t n =
        h1_parse_trailers(p, len, H1_TRAILER_FIELD_MAX, result->trailers, &result->trailer_count);
    if (n < 0) {
        return (int)n;
    }
    result->used += (size_t)n;
    return n == 0 ? H1_BODY_MORE : H1_BODY_END;
}

static int next_chunked(struct h1_body *body, const char *p, size_t len,
                        struct h1_body_result *result)
{
    if (body->in_trailers) {
        return next_trailers(p, len, result);
    }
    int event = h1_chunked_next(&body->chunked, p, len, &result->used, &result->data);
    if (event == H1_CHUNKED_DATA) {
        return H1_BODY_DATA;
    }
    if (event == H1_CHUNKED_TRAILERS) {
        body->in_trailers = true;
        return next_trailers(p + result->used, len - result->used, result);
    }
    return event < 0 ? event : H1_BODY_MORE;
}

int h1_body_next(struct h1_body *body, const char *p, size_t len, struct h1_body_result *result)
{
    result->used = 0;
    result->data = STR_NULL;
    result->trailer_count = 0;
    switch ((enum http_body)body->kind) {
    case BODY_NONE:
        return H1_BODY_END;
    case BODY_LENGTH:
        if (body->left == 0) {
            return H1_BODY_END;
        }
        result->used = len < body->left ? len : (size_t)body->left;
        body->left -= result->used;
        break;
    case BODY_CHUNKED:
        return next_chunked(body, p, len, result);
    case BODY_UNTIL_CLOSE:
        result->used = len;
        break;
    }
    result->data = str_make(p, result->used);
    return result->used == 0 ? H1_BODY_MORE : H1_BODY_DATA;
}
