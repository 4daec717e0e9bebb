// SPDX-License-Identifier: MIT
// How long a message is and what becomes of its connection (RFC 9112 6.3, 9.3; RFC 9110 7.6.1, 7.8).
#include "http/h1/h1_int.h"

int h1_take_version(const char *p, const char *end, uint8_t *version)
{
    static const char name[] = "HTTP/";
    for (size_t i = 0; i < H1_VERSION_LEN; i++) {
        if (p + i == end) {
            return STEP_AGAIN;
        }
        bool good = i < 5 ? p[i] == name[i] : i == 6 ? p[i] == '.' : ascii_is_digit(p[i]);
        if (!good) {
            return ERR_START_LINE;
        }
    }
    if (p[5] != '1' || p[7] > '1') {
        return ERR_VERSION;
    }
    *version = (uint8_t)(10 + (p[7] - '0'));
    return STEP_DONE;
}

static struct str value_of(const struct h1_section *section, const struct http_head *head,
                           enum field_id id)
{
    return head->fields[section->at[id]].value;
}

static bool is_token(struct str s)
{
    return field_name_is_valid(s);
}

// What is wrong with a Transfer-Encoding that is not just "chunked". Taken apart by plain commas: a
// quote can only stand in a parameter, and a coding with parameters is refused as well.
static int judge_codings(struct str value)
{
    bool chunked = false;
    bool more = true;
    while (more) {
        struct str coding;
        more = str_split(value, ',', &coding, &value);
        coding = str_trim(coding);
        if (!is_token(coding) || chunked) {
            return ERR_CODING_ORDER;
        }
        chunked = str_eq_case(coding, STR("chunked"));
    }
    return ERR_CODING;
}

static int decide_chunked(const struct h1_section *section, struct http_head *head)
{
    if (h1_has(section, FIELD_CONTENT_LENGTH)) {
        return ERR_LENGTH_AND_CODING;
    }
    if (head->version < 11) {
        return ERR_CODING_VERSION;
    }
    if ((section->repeated & FIELD_BIT(FIELD_TRANSFER_ENCODING)) != 0) {
        return ERR_CODING_ORDER;
    }
    struct str value = value_of(section, head, FIELD_TRANSFER_ENCODING);
    if (!str_eq_case(value, STR("chunked"))) {
        return judge_codings(value);
    }
    head->body = BODY_CHUNKED;
    return 0;
}

int h1_decide_length(const struct h1_section *section, struct http_head *head)
{
    head->body = BODY_NONE;
    head->body_len = 0;
    if (h1_has(section, FIELD_TRANSFER_ENCODING)) {
        return decide_chunked(section, head);
    }
    if (!h1_has(section, FIELD_CONTENT_LENGTH)) {
        return 0;
    }
    // RFC 9110 8.6 would allow equal ones; nobody honest sends them.
    if ((section->repeated & FIELD_BIT(FIELD_CONTENT_LENGTH)) != 0) {
        return ERR_LENGTH_DIFFERS;
    }
    uint64_t len;
    if (str_to_u64(value_of(section, head, FIELD_CONTENT_LENGTH), &len) != 0 || len > INT64_MAX) {
        return ERR_LENGTH;
    }
    head->body = BODY_LENGTH;
    head->body_len = len;
    return 0;
}

// Upgrade = 1#( token [ "/" token ] ) (RFC 9110 7.8). 0 and whether h2c is among them.
static int check_upgrade(const struct http_head *head, bool *h2c)
{
    bool any = false;
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != FIELD_UPGRADE) {
            continue;
        }
        struct str rest = head->fields[i].value;
        struct str element;
        while (str_next_element(&rest, &element)) {
            struct str name;
            struct str version;
            bool split = str_split(element, '/', &name, &version);
            if (!is_token(name) || (split && !is_token(version))) {
                return ERR_UPGRADE;
            }
            any = true;
            *h2c |= str_eq_case(name, STR("h2c"));
        }
    }
    return any ? 0 : ERR_UPGRADE;
}

static bool names_too_many(const struct http_head *head)
{
    unsigned count = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        struct str rest = head->fields[i].id == FIELD_CONNECTION ? head->fields[i].value : STR("");
        struct str element;
        while (str_next_element(&rest, &element)) {
            if (++count > H1_CONNECTION_MAX) {
                return true;
            }
        }
    }
    return false;
}

int h1_decide_connection(const struct h1_section *section, struct http_head *head)
{
    head->keep_alive = head->version >= 11;
    head->upgrade = false;
    if (!h1_has(section, FIELD_CONNECTION)) {
        return 0;
    }
    // By far the most common value.
    if ((section->repeated & FIELD_BIT(FIELD_CONNECTION)) == 0 &&
        str_eq_case(value_of(section, head, FIELD_CONNECTION), STR("keep-alive"))) {
        head->keep_alive = true;
        return 0;
    }
    if (names_too_many(head)) {
        return ERR_TOO_MANY_FIELDS;
    }
    if (http_head_has_token(head, FIELD_CONNECTION, STR("close"))) {
        head->keep_alive = false;
    } else if (http_head_has_token(head, FIELD_CONNECTION, STR("keep-alive"))) {
        head->keep_alive = true;
    }
    // RFC 9110 7.8: an Upgrade in HTTP/1.0, or one that Connection does not name, is not there.
    if (head->version < 11 || !h1_has(section, FIELD_UPGRADE) ||
        !http_head_has_token(head, FIELD_CONNECTION, STR("upgrade"))) {
        return 0;
    }
    bool h2c = false;
    int err = check_upgrade(head, &h2c);
    if (err != 0) {
        return err;
    }
    // A tunnel of cleartext HTTP/2 would carry requests past all routing: the offer is not heard.
    head->upgrade = !h2c;
    return 0;
}
