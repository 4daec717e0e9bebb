// SPDX-License-Identifier: MIT
// The heads that are sent on: hop-by-hop fields end here, forwarding fields are set or extended, the
// route's header rules are applied (RFC 9110 7.6).
#include "proxy/secure.h"

struct builder {
    struct txn *txn;
    const struct header_rules *rules; // NULL: none
    struct http_field *fields;
    unsigned count;
    unsigned max;
    // What Connection names, taken apart once: doing it for each field would make of a long list the
    // dearest request there is.
    struct str named[H1_CONNECTION_MAX];
    unsigned named_count;
};

static void read_named(struct builder *b, const struct http_head *head)
{
    b->named_count = 0;
    if (!(head->seen & FIELD_BIT(FIELD_CONNECTION))) {
        return;
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != FIELD_CONNECTION) {
            continue;
        }
        struct str rest = head->fields[i].value;
        while (b->named_count < H1_CONNECTION_MAX &&
               str_next_element(&rest, &b->named[b->named_count])) {
            b->named_count++;
        }
    }
}

static int begin(struct builder *b, struct txn *txn, const struct http_head *head,
                 const struct header_rules *rules, unsigned count)
{
    read_named(b, head);
    b->txn = txn;
    b->rules = rules;
    b->count = 0;
    b->max = count;
    b->fields = arena_alloc(&txn->arena, count * sizeof *b->fields);
    return b->fields == NULL ? ERR_MEMORY : 0;
}

static void add(struct builder *b, enum field_id id, struct str name, struct str value)
{
    if (b->count < b->max && value.p != NULL) {
        b->fields[b->count++] = (struct http_field){name, value, id};
    }
}

static bool is_named(const struct header_decl *list, unsigned count, struct str name)
{
    for (unsigned i = 0; i < count; i++) {
        if (str_eq_case(list[i].name, name)) {
            return true;
        }
    }
    return false;
}

static bool is_ruled(const struct header_rules *rules, struct str name)
{
    return rules != NULL && (is_named(rules->remove, rules->remove_count, name) ||
                             is_named(rules->set, rules->set_count, name));
}

// A field of our own; the route's rules may take it away or set another.
static void add_known(struct builder *b, enum field_id id, struct str value)
{
    struct str name = field_name(id);
    if (!is_ruled(b->rules, name)) {
        add(b, id, name, value);
    }
}

static void add_rules(struct builder *b)
{
    for (unsigned i = 0; b->rules != NULL && i < b->rules->set_count; i++) {
        add(b, FIELD_OTHER, b->rules->set[i].name, b->rules->set[i].value);
    }
}

// Room for a builder: what came, what is set, what we add.
static unsigned room_for(const struct http_head *head, const struct header_rules *rules)
{
    return head->field_count + (rules == NULL ? 0 : rules->set_count) + 16;
}

// All values of a field as one list, with `more` behind; for a single value no copy is made of it
// alone.
static struct str join(struct txn *txn, const struct http_head *head, enum field_id id,
                       struct str more)
{
    if (!(head->seen & FIELD_BIT(id))) {
        return more;
    }
    size_t len = more.len;
    for (unsigned i = 0; i < head->field_count; i++) {
        if (head->fields[i].id == id && head->fields[i].value.len > 0) {
            len += head->fields[i].value.len + 2;
        }
    }
    char *text = arena_alloc(&txn->arena, len);
    if (text == NULL) {
        return STR_NULL;
    }
    char *at = text;
    for (unsigned i = 0; i < head->field_count; i++) {
        struct str value = head->fields[i].value;
        if (head->fields[i].id == id && value.len > 0) {
            memcpy(at, value.p, value.len);
            memcpy(at + value.len, ", ", 2);
            at += value.len + 2;
        }
    }
    memcpy(at, more.p, more.len);
    return str_make(text, len);
}

static char *copy(char *to, struct str s)
{
    if (s.len > 0) {
        memcpy(to, s.p, s.len);
    }
    return to + s.len;
}

// for=192.0.2.1;host="shop.example.com";proto=http (RFC 7239; an IPv6 address is quoted)
static struct str forwarded_element(struct txn *txn, struct str peer)
{
    bool is_v6 = str_find_char(peer, ':') != SIZE_MAX;
    struct str host = txn->request.authority;
    char *text = arena_alloc(&txn->arena, peer.len + host.len + 48);
    if (text == NULL) {
        return STR_NULL;
    }
    char *at = copy(text, is_v6 ? STR("for=\"[") : STR("for="));
    at = copy(at, str_eq(peer, STR("unix")) ? STR("unknown") : peer);
    at = copy(at, is_v6 ? STR("]\"") : STR(""));
    if (host.len > 0) {
        at = copy(at, STR(";host=\""));
        at = copy(at, host);
        at = copy(at, STR("\""));
    }
    at = copy(at, txn->is_https ? STR(";proto=https") : STR(";proto=http"));
    return str_make(text, (size_t)(at - text));
}

static struct str port_text(struct txn *txn)
{
    enum { DIGITS = 5 };
    char *text = arena_alloc(&txn->arena, DIGITS);
    if (text == NULL) {
        return STR_NULL;
    }
    unsigned port = http_stream_local_port(txn->client);
    char *at = text + DIGITS;
    do {
        *--at = (char)('0' + port % 10);
        port /= 10;
    } while (port > 0);
    return str_make(at, (size_t)(text + DIGITS - at));
}

// What a trusted proxy said, else what we see.
static struct str trusted_or(const struct txn *txn, enum field_id id, struct str own)
{
    struct str given = txn->is_trusted ? http_head_value(&txn->request, id) : STR_NULL;
    return given.len > 0 ? given : own;
}

// "1.1 pointsman": the protocol by which the message came (RFC 9110 7.6.3).
static struct str via_of(const struct http_head *head)
{
    return head->version == 20   ? STR("2.0 pointsman")
           : head->version == 10 ? STR("1.0 pointsman")
                                 : STR("1.1 pointsman");
}

static void add_client_certificate(struct builder *b)
{
    struct secure_client client;
    secure_read_client(b->txn, &client);
    if (client.verify == NULL) {
        return;
    }
    add_known(b, FIELD_CLIENT_VERIFY, str_from_c(client.verify));
    if (client.fingerprint.len > 0) {
        add_known(b, FIELD_CLIENT_CERT_SUBJECT, client.subject);
        add_known(b, FIELD_CLIENT_CERT_SHA256, client.fingerprint);
    }
}

static void add_forwarding(struct builder *b)
{
    struct txn *txn = b->txn;
    const struct http_head *request = &txn->request;
    struct str peer = http_stream_peer_text(txn->client);
    struct str element = forwarded_element(txn, peer);
    if (txn->is_trusted) {
        add_known(b, FIELD_X_FORWARDED_FOR, join(txn, request, FIELD_X_FORWARDED_FOR, peer));
        add_known(b, FIELD_FORWARDED, join(txn, request, FIELD_FORWARDED, element));
    } else {
        add_known(b, FIELD_X_FORWARDED_FOR, peer);
        add_known(b, FIELD_FORWARDED, element);
    }
    add_known(b, FIELD_X_FORWARDED_PROTO, txn->is_https ? STR("https") : STR("http"));
    if (request->authority.len > 0) {
        add_known(b, FIELD_X_FORWARDED_HOST,
                  trusted_or(txn, FIELD_X_FORWARDED_HOST, request->authority));
    }
    struct str port = trusted_or(txn, FIELD_X_FORWARDED_PORT, STR_NULL);
    add_known(b, FIELD_X_FORWARDED_PORT, port.len > 0 ? port : port_text(txn));
    add_known(b, FIELD_X_REAL_IP, txn->client_ip);
    add_known(b, FIELD_X_REQUEST_ID, txn->request_id_text);
    add_known(b, FIELD_TRACEPARENT, txn->traceparent_text);
    add_known(b, FIELD_VIA, join(txn, request, FIELD_VIA, via_of(request)));
    add_client_certificate(b);
}

// The path that matched is the path that is sent; strip_path takes the route's prefix off, target_path
// goes in front.
static struct str target_of(struct txn *txn)
{
    const struct http_head *request = &txn->request;
    const struct route_decl *rules = txn_rules(txn);
    if (str_eq(request->path, STR("*"))) {
        return STR("*");
    }
    struct str path = txn->path;
    struct str front = STR("");
    if (rules != NULL) {
        front = rules->target_path;
        if (rules->strip_path && rules->path.len > 1) {
            path = str_from(path, rules->path.len);
        }
        if (front.len > 0 && front.p[front.len - 1] == '/' && path.len > 0) {
            front.len--; // "/base/" and "/x" are "/base/x"
        }
        if (path.len == 0 && front.len == 0) {
            path = STR("/");
        }
    }
    char *text = arena_alloc(&txn->arena, front.len + path.len + request->query.len);
    if (text == NULL) {
        return STR_NULL;
    }
    char *end = copy(copy(copy(text, front), path), request->query);
    return str_make(text, (size_t)(end - text));
}

// A target's text without its scheme, and without the port that the scheme implies.
static struct str target_authority(struct str text)
{
    if (str_starts(text, STR("https://"))) {
        text = str_from(text, 8);
        return str_ends(text, STR(":443")) ? str_sub(text, 0, text.len - 4) : text;
    }
    return str_starts(text, STR("h2c://")) ? str_from(text, 6) : text;
}

static struct str host_of(struct txn *txn)
{
    const struct route_decl *rules = txn_rules(txn);
    enum host_header mode = rules == NULL ? HOST_KEEP : rules->host_header;
    if (mode == HOST_LITERAL) {
        return rules->host_literal;
    }
    if (mode == HOST_KEEP && txn->request.authority.len > 0) {
        return txn->request.authority;
    }
    char text[POOL_MEMBER_TEXT_MAX];
    size_t len = pool_member_text(txn->member, text, sizeof text);
    struct str address = target_authority(str_make(text, len));
    return arena_str(&txn->arena, str_starts(address, STR("unix:")) ? STR("localhost") : address);
}

static bool passes(const struct builder *b, const struct http_field *field, uint64_t dropped)
{
    if (field->id != FIELD_OTHER && (dropped & FIELD_BIT(field->id))) {
        return false;
    }
    if (field_flags(field->id) & FIELD_SECURITY) {
        return true; // never named away: it frames the message or says who asks
    }
    for (unsigned i = 0; i < b->named_count; i++) {
        if (str_eq_case(b->named[i], field->name)) {
            return false;
        }
    }
    return true;
}

// Hop-by-hop fields, and those that are written anew.
static uint64_t dropped_fields(bool is_request)
{
    static const enum field_id rewritten[] = {
        FIELD_HOST, FIELD_CONTENT_LENGTH, FIELD_VIA, FIELD_X_REQUEST_ID, FIELD_TRACEPARENT,
    };
    uint64_t dropped = 0;
    for (int id = 1; id < FIELD_ID_COUNT; id++) {
        unsigned flags = field_flags((enum field_id)id);
        if (flags & FIELD_HOP || (is_request && flags & FIELD_FORWARD)) {
            dropped |= FIELD_BIT(id);
        }
    }
    unsigned count = is_request ? 5 : 3; // an origin's own ids pass
    for (unsigned i = 0; i < count; i++) {
        dropped |= FIELD_BIT(rewritten[i]);
    }
    return dropped;
}

static uint64_t request_dropped, response_dropped;

__attribute__((constructor)) static void make_masks(void)
{
    request_dropped = dropped_fields(true);
    response_dropped = dropped_fields(false);
}

// Counted down by one at each hop (RFC 9110 7.6.2); what is no number is passed as it is.
static struct str next_max_forwards(struct txn *txn, struct str value)
{
    uint64_t left;
    if (str_to_u64(value, &left) != 0 || left == 0) {
        return value;
    }
    return arena_printf(&txn->arena, "%llu", (unsigned long long)(left - 1));
}

int txn_build_request(struct txn *txn, struct http_head *out)
{
    const struct http_head *request = &txn->request;
    const struct route_decl *rules = txn_rules(txn);
    const struct header_rules *header_rules = rules == NULL ? NULL : &rules->request_headers;
    struct builder b;
    if (begin(&b, txn, request, header_rules, room_for(request, header_rules)) != 0) {
        return ERR_MEMORY;
    }
    bool upgrades = txn_asks_upgrade(txn);
    uint64_t dropped = upgrades ? request_dropped & ~FIELD_BIT(FIELD_UPGRADE) : request_dropped;
    dropped |= txn->said_continue ? FIELD_BIT(FIELD_EXPECT) : 0;
    const struct http_field *max_forwards = txn_max_forwards(txn);
    for (unsigned i = 0; i < request->field_count; i++) {
        const struct http_field *field = &request->fields[i];
        bool is_upgrade = upgrades && field->id == FIELD_UPGRADE;
        if ((is_upgrade || passes(&b, field, dropped)) && !is_ruled(header_rules, field->name)) {
            struct str value =
                field == max_forwards ? next_max_forwards(txn, field->value) : field->value;
            add(&b, field->id, field->name, value);
        }
    }
    if (request->te_trailers) {
        // "TE" is for the next hop only; the client's wish is ours too, since trailers are passed on.
        add_known(&b, FIELD_TE, STR("trailers"));
    }
    add_forwarding(&b);
    add_rules(&b);
    *out = *request;
    out->fields = b.fields;
    out->field_count = b.count;
    out->upgrade = upgrades;
    out->target = target_of(txn);
    out->authority = host_of(txn);
    if (request->body == BODY_CHUNKED && txn->request_ended && txn->trailer_count == 0 &&
        !txn->keep_overflow) {
        out->body = BODY_LENGTH; // complete already: kinder to simple origins
        out->body_len = txn->keep.len;
    }
    return txn->arena.overflow ? ERR_MEMORY : 0;
}

struct str txn_hsts(struct txn *txn)
{
    const struct route_decl *rules = txn_rules(txn);
    if (!txn->is_https || rules == NULL || rules->hsts_sec == 0) {
        return STR_NULL; // over plain HTTP it must not be sent (RFC 6797 7.2)
    }
    return arena_printf(&txn->arena, "max-age=%u", rules->hsts_sec);
}

int txn_build_response(struct txn *txn, const struct http_head *in, struct http_head *out)
{
    const struct route_decl *rules = txn_rules(txn);
    const struct header_rules *header_rules = rules == NULL ? NULL : &rules->response_headers;
    struct str hsts = in->status >= 200 ? txn_hsts(txn) : STR_NULL;
    struct builder b;
    if (begin(&b, txn, in, header_rules, room_for(in, header_rules)) != 0) {
        return ERR_MEMORY;
    }
    for (unsigned i = 0; i < in->field_count; i++) {
        const struct http_field *field = &in->fields[i];
        bool is_upgrade = in->status == 101 && field->id == FIELD_UPGRADE;
        if ((!is_upgrade && !passes(&b, field, response_dropped)) ||
            is_ruled(header_rules, field->name) ||
            (hsts.p != NULL && str_eq_case(field->name, HSTS_NAME))) {
            continue;
        }
        struct str value = field->id == FIELD_LOCATION || field->id == FIELD_CONTENT_LOCATION
                               ? txn_rewrite_location(txn, field->value)
                               : field->value;
        add(&b, field->id, field->name, value);
    }
    add_known(&b, FIELD_VIA, join(txn, in, FIELD_VIA, via_of(in)));
    *out = *in;
    if (in->status >= 200 || in->status == 101) {
        add(&b, FIELD_SET_COOKIE, field_name(FIELD_SET_COOKIE), txn_sticky_cookie(txn));
    }
    if (in->status >= 200) {
        if (!is_ruled(header_rules, HSTS_NAME)) {
            add(&b, FIELD_OTHER, HSTS_NAME, hsts);
        }
        add_rules(&b);
        out->seen |= is_ruled(header_rules, field_name(FIELD_DATE)) ? FIELD_BIT(FIELD_DATE) : 0;
    }
    out->fields = b.fields;
    out->field_count = b.count;
    bool tells_length = txn->request.method == METHOD_HEAD || in->status == 304;
    if (!(tells_length && in->body == BODY_NONE &&
          str_to_u64(http_head_value(in, FIELD_CONTENT_LENGTH), &out->body_len) == 0)) {
        out->seen &= ~FIELD_BIT(FIELD_CONTENT_LENGTH);
    }
    return txn->arena.overflow ? ERR_MEMORY : 0;
}
