// SPDX-License-Identifier: MIT
// What requests to a pool with "balance": "hash" are told apart by. A request without it is balanced by
// requests.
#include "proxy/form_scan.h"
#include "proxy/transaction.h"

static void set_hash(struct pool_choice *choice, uint64_t hash)
{
    choice->hash = hash;
    choice->has_hash = true;
}

static void set_key(struct pool_choice *choice, const void *bytes, size_t len)
{
    set_hash(choice, key_hash(bytes, len));
}

// An empty one is none.
static void set_text(struct pool_choice *choice, struct str text)
{
    if (text.len > 0) {
        set_key(choice, text.p, text.len);
    }
}

static struct str field_value(const struct txn *txn, struct str name)
{
    const struct http_field *field = http_head_find_name(&txn->request, name);
    return field == NULL ? STR_NULL : field->value;
}

struct str txn_cookie(const struct txn *txn, struct str name, struct str *rest, unsigned *next)
{
    const struct http_head *request = &txn->request;
    for (;;) {
        while (rest->len > 0) {
            struct str one;
            str_split(*rest, ';', &one, rest);
            size_t equals = str_find_char(one, '=');
            if (equals != SIZE_MAX && str_eq(str_trim(str_sub(one, 0, equals)), name)) {
                return str_trim(str_from(one, equals + 1));
            }
        }
        while (*next < request->field_count && request->fields[*next].id != FIELD_COOKIE) {
            ++*next;
        }
        if (*next == request->field_count) {
            return STR_NULL;
        }
        *rest = request->fields[(*next)++].value;
    }
}

static struct str first_cookie(const struct txn *txn, struct str name)
{
    struct str rest = STR_NULL;
    unsigned next = 0;
    return txn_cookie(txn, name, &rest, &next);
}

static void set_query(const struct txn *txn, struct str name, struct pool_choice *choice)
{
    struct form_scan scan;
    form_scan_init(&scan, FORM_PAIRS, name, STR_NULL);
    form_scan_put(&scan, str_from(txn->request.query, 1));
    if (form_scan_end(&scan) == FORM_FOUND) {
        set_hash(choice, form_scan_hash(&scan));
    }
}

// Behind the scheme of Authorization: "Bearer abc" and "bearer abc" are one key.
static struct str credentials(struct str value)
{
    size_t space = str_find_char(value, ' ');
    return space == SIZE_MAX ? value : str_trim(str_from(value, space + 1));
}

static void set_api_key(const struct txn *txn, struct pool_choice *choice)
{
    set_text(choice, field_value(txn, STR("X-Api-Key")));
    if (!choice->has_hash) {
        set_text(choice, credentials(http_head_value(&txn->request, FIELD_AUTHORIZATION)));
    }
    if (!choice->has_hash) {
        set_query(txn, STR("api_key"), choice);
    }
}

// ---- a field of the body ----

struct feeding {
    struct form_scan *scan;
    uint64_t skip; // bytes that it has seen already
};

static void feed(void *context, struct str piece)
{
    struct feeding *feeding = context;
    if (piece.len <= feeding->skip) {
        feeding->skip -= piece.len;
        return;
    }
    form_scan_put(feeding->scan, str_from(piece, feeding->skip));
    feeding->skip = 0;
}

static struct form_scan *new_scan(struct txn *txn, struct str name)
{
    struct str boundary = STR_NULL;
    bool is_coded = (txn->request.seen & FIELD_BIT(FIELD_CONTENT_ENCODING)) != 0;
    enum form_kind kind =
        is_coded || txn->request.body == BODY_NONE
            ? FORM_NONE
            : form_kind_of(http_head_value(&txn->request, FIELD_CONTENT_TYPE), &boundary);
    struct form_scan *scan = arena_alloc(&txn->arena, sizeof *scan);
    struct str copy =
        arena_str(&txn->arena, name); // the settings may be gone before the body is here
    if (scan != NULL && copy.p != NULL) {
        form_scan_init(scan, kind, copy, boundary);
    }
    return copy.p == NULL ? NULL : scan;
}

// False: more of the body must come. A field that is not in the first TXN_KEEP_MAX bytes is none.
static bool set_form(struct txn *txn, struct str name, struct pool_choice *choice)
{
    if (txn->form == NULL) {
        txn->form = new_scan(txn, name);
    }
    struct form_scan *scan = txn->form;
    if (scan == NULL) {
        return true;
    }
    struct feeding feeding = {scan, scan->seen};
    if (scan->state == FORM_WANTS_MORE) {
        body_keep_each(&txn->keep, feed, &feeding);
    }
    if (scan->state == FORM_WANTS_MORE) {
        if (!txn->request_ended && txn->keep.len < TXN_KEEP_MAX && !txn->keep_overflow &&
            !proxy_keeps_too_much(txn->proxy)) {
            return false;
        }
        form_scan_end(scan);
    }
    if (scan->state == FORM_FOUND) {
        set_hash(choice, form_scan_hash(scan));
    }
    return true;
}

bool txn_read_key(struct txn *txn, const struct pool_settings *settings, struct pool_choice *choice)
{
    struct str name = settings->hash.name;
    if (settings->balance != BALANCE_HASH) {
        return true;
    }
    switch ((enum hash_by)settings->hash.by) {
    case HASH_NONE:
        break;
    case HASH_CLIENT_IP:
        set_key(choice, &txn->client_address, sizeof txn->client_address);
        break;
    case HASH_PATH:
        set_text(choice, txn->path);
        break;
    case HASH_HEADER:
        set_text(choice, field_value(txn, name));
        break;
    case HASH_COOKIE:
        set_text(choice, first_cookie(txn, name));
        break;
    case HASH_QUERY:
        set_query(txn, name, choice);
        break;
    case HASH_FORM:
        return set_form(txn, name, choice);
    case HASH_KEY:
        set_api_key(txn, choice);
        break;
    }
    return true;
}
