// SPDX-License-Identifier: MIT
#include "http/h2/h2_fields.h"
#include "base/invariant.h"
#include "http/uri.h"

// X(id, name): RFC 9113 8.3, RFC 8441 4
#define PSEUDO_TABLE(X)               \
    X(PSEUDO_METHOD, ":method")       \
    X(PSEUDO_SCHEME, ":scheme")       \
    X(PSEUDO_AUTHORITY, ":authority") \
    X(PSEUDO_PATH, ":path")           \
    X(PSEUDO_PROTOCOL, ":protocol")   \
    X(PSEUDO_STATUS, ":status")

enum pseudo {
#define X(id, name) id,
    PSEUDO_TABLE(X)
#undef X
        PSEUDO_COUNT
};

static const struct str pseudo_names[] = {
#define X(id, name) [id] = {name, sizeof(name) - 1},
    PSEUDO_TABLE(X)
#undef X
};

struct h2_section {
    struct h2_memory *memory;
    const struct h1_limits *limits;
    nghttp2_rcbuf *pseudo[PSEUDO_COUNT]; // held
    enum h2_section_kind kind;
    int err;     // the first fault; nothing is kept any more
    size_t cost; // as SETTINGS_MAX_HEADER_LIST_SIZE counts
    bool sealed; // the pseudo-header fields were laid out
    unsigned count;
    unsigned cookie; // index + 1 of the field that cookies are joined in
    uint64_t seen;
    uint64_t repeated;
    struct str method, authority, target, protocol, status;
    size_t len;
    size_t size;
    char *text; // behind the fields
    struct http_field fields[];
};

static struct str view_of(nghttp2_rcbuf *rcbuf)
{
    if (rcbuf == NULL) {
        return STR_NULL;
    }
    nghttp2_vec vec = nghttp2_rcbuf_get_buf(rcbuf);
    return str_make((const char *)vec.base, vec.len);
}

static bool has(const struct h2_section *section, enum field_id id)
{
    return (section->seen & FIELD_BIT(id)) != 0;
}

static unsigned field_max(const struct h2_section *section)
{
    unsigned max = section->kind == H2_TRAILERS ? H2_TRAILER_MAX : section->limits->field_max;
    return max < H1_FIELD_MAX ? max : H1_FIELD_MAX;
}

static size_t cost_max(const struct h2_section *section)
{
    return section->kind == H2_TRAILERS ? H1_TRAILER_MAX : section->limits->head_max;
}

struct h2_section *h2_section_new(struct h2_memory *memory, enum h2_section_kind kind,
                                  const struct h1_limits *limits)
{
    struct h2_section probe = {.kind = kind, .limits = limits};
    // One more field than can be, for one of our own. Names and values never need more than what
    // they cost together.
    size_t fields_len = (field_max(&probe) + 1) * sizeof(struct http_field);
    size_t size = cost_max(&probe);
    struct h2_section *section = h2_memory_get(memory, sizeof *section + fields_len + size);
    if (section == NULL) {
        return NULL;
    }
    *section = probe;
    section->memory = memory;
    section->size = size;
    section->text = (char *)section->fields + fields_len;
    return section;
}

void h2_section_free(struct h2_section **section)
{
    struct h2_section *s = *section;
    *section = NULL;
    if (s == NULL) {
        return;
    }
    for (unsigned i = 0; i < PSEUDO_COUNT; i++) {
        if (s->pseudo[i] != NULL) {
            nghttp2_rcbuf_decref(s->pseudo[i]);
        }
    }
    h2_memory_put(s->memory, s);
}

static void fail(struct h2_section *section, int err)
{
    if (section->err == 0) {
        section->err = err;
    }
}

static struct str put_text(struct h2_section *section, struct str s)
{
    if (s.len > section->size - section->len) {
        fail(section, ERR_HEAD_TOO_LARGE);
        return STR_NULL;
    }
    char *to = section->text + section->len;
    if (s.len > 0) {
        memcpy(to, s.p, s.len);
    }
    section->len += s.len;
    return str_make(to, s.len);
}

// Whoever keeps a head copies from its method to the end of its last field in one piece: what comes
// before the fields goes into this order, however it came.
static void seal(struct h2_section *section)
{
    if (section->sealed) {
        return;
    }
    section->sealed = true;
    section->method = put_text(section, view_of(section->pseudo[PSEUDO_METHOD]));
    section->authority = put_text(section, view_of(section->pseudo[PSEUDO_AUTHORITY]));
    section->target = put_text(section, view_of(section->pseudo[PSEUDO_PATH]));
    section->protocol = view_of(section->pseudo[PSEUDO_PROTOCOL]);
    section->status = view_of(section->pseudo[PSEUDO_STATUS]);
}

static void add_pseudo(struct h2_section *section, struct str name, nghttp2_rcbuf *value)
{
    for (unsigned i = 0; i < PSEUDO_COUNT; i++) {
        if (str_eq(name, pseudo_names[i])) {
            if (section->pseudo[i] != NULL || section->sealed || section->kind == H2_TRAILERS) {
                fail(section, ERR_PROTOCOL);
                return;
            }
            nghttp2_rcbuf_incref(value);
            section->pseudo[i] = value;
            return;
        }
    }
    fail(section, ERR_PROTOCOL);
}

// RFC 9113 8.2.3: crumbs of a cookie are one field again.
static void join_cookie(struct h2_section *section, struct str value)
{
    struct http_field *field = &section->fields[section->cookie - 1];
    const char *end = field->value.p + field->value.len;
    if (end != section->text + section->len) {
        field->value = put_text(section, field->value);
    }
    put_text(section, STR("; "));
    struct str more = put_text(section, value);
    if (section->err == 0) {
        field->value.len += 2 + more.len;
    }
}

static void add_field(struct h2_section *section, struct str name, struct str value)
{
    seal(section);
    enum field_id id = field_find(name);
    if (id == FIELD_COOKIE && section->cookie != 0 && section->err == 0) {
        join_cookie(section, value);
        return;
    }
    if (section->count >= field_max(section)) {
        fail(section, ERR_TOO_MANY_FIELDS);
        return;
    }
    // nghttp2 lets no other bytes through; what reaches an HTTP/1 origin is too much to rest on that.
    if (!field_name_is_valid(name)) {
        fail(section, ERR_FIELD_NAME);
        return;
    }
    if (!field_value_is_valid(value)) {
        fail(section, ERR_CONTROL_BYTE);
        return;
    }
    if (id == FIELD_OTHER && field_is_disguised(name)) {
        return;
    }
    struct http_field *field = &section->fields[section->count];
    field->id = id;
    field->name = put_text(section, name);
    field->value = put_text(section, str_trim(value));
    if (section->err != 0) {
        return;
    }
    section->count++;
    if (id != FIELD_OTHER) {
        section->repeated |= section->seen & FIELD_BIT(id);
        section->seen |= FIELD_BIT(id);
    }
    if (id == FIELD_COOKIE) {
        section->cookie = section->count;
    }
}

int h2_section_add(struct h2_section *section, nghttp2_rcbuf *name, nghttp2_rcbuf *value)
{
    struct str name_view = view_of(name);
    struct str value_view = view_of(value);
    section->cost += name_view.len + value_view.len + H2_FIELD_COST;
    if (section->cost > cost_max(section)) {
        fail(section, ERR_HEAD_TOO_LARGE);
        return section->cost > H2_BOMB_FACTOR * cost_max(section) ? ERR_ABUSE : 0;
    }
    if (section->err != 0) {
        return 0;
    }
    if (name_view.len > 0 && name_view.p[0] == ':') {
        add_pseudo(section, name_view, value);
    } else {
        add_field(section, name_view, value_view);
    }
    return 0;
}

void h2_section_put(struct h2_section *section, struct str name, struct str value)
{
    if (section->err == 0 && !has(section, field_find(name))) {
        add_field(section, name, value);
    }
}

struct str h2_section_protocol(const struct h2_section *section)
{
    return view_of(section->pseudo[PSEUDO_PROTOCOL]);
}

// RFC 9113 8.2.2: what speaks of the connection is of HTTP/1 alone.
static bool has_connection_field(const struct h2_section *section)
{
    return (section->seen &
            (FIELD_BIT(FIELD_CONNECTION) | FIELD_BIT(FIELD_KEEP_ALIVE) |
             FIELD_BIT(FIELD_PROXY_CONNECTION) | FIELD_BIT(FIELD_TRANSFER_ENCODING))) != 0;
}

static int decide_body(const struct h2_section *section, bool ended, struct http_head *head)
{
    if (!has(section, FIELD_CONTENT_LENGTH)) {
        head->body = ended ? BODY_NONE : BODY_CHUNKED;
        return 0;
    }
    if ((section->repeated & FIELD_BIT(FIELD_CONTENT_LENGTH)) != 0) {
        return ERR_LENGTH_DIFFERS;
    }
    uint64_t len;
    if (str_to_u64(http_head_value(head, FIELD_CONTENT_LENGTH), &len) != 0 || len > INT64_MAX) {
        return ERR_LENGTH;
    }
    head->body = BODY_LENGTH;
    head->body_len = len;
    return 0;
}

static int decide_method(const struct h2_section *section, struct http_head *head)
{
    head->method_text = section->method;
    if (head->method_text.len > H1_METHOD_MAX || !field_name_is_valid(head->method_text)) {
        return ERR_METHOD;
    }
    head->method = http_method_find(head->method_text);
    if (head->method == METHOD_TRACE) {
        return ERR_METHOD_REFUSED;
    }
    bool is_extended = section->pseudo[PSEUDO_PROTOCOL] != NULL;
    if (head->method == METHOD_CONNECT) {
        if (!is_extended) {
            return ERR_METHOD_REFUSED;
        }
        if (!str_eq(section->protocol, STR("websocket"))) {
            return ERR_UPGRADE;
        }
        // RFC 8441 5: what HTTP/1 has as a GET that asks for an upgrade.
        head->method = METHOD_GET;
        head->method_text = STR("GET");
        head->upgrade = true;
        return 0;
    }
    return is_extended ? ERR_PROTOCOL : 0;
}

static int decide_target(const struct h2_section *section, struct http_head *head)
{
    struct str scheme = view_of(section->pseudo[PSEUDO_SCHEME]);
    head->target = section->target;
    if (head->target.len > section->limits->target_max) {
        return ERR_TARGET_TOO_LONG;
    }
    if (str_eq_case(scheme, STR("https"))) {
        head->scheme = STR("https");
    } else if (str_eq_case(scheme, STR("http"))) {
        head->scheme = STR("http");
    } else {
        return ERR_TARGET;
    }
    if (head->target.len == 0 || (head->target.p[0] != '/' && head->target.p[0] != '*')) {
        return ERR_TARGET;
    }
    struct uri_target parts;
    int err = uri_split_target(head->target, head->method == METHOD_OPTIONS, &parts);
    if (err != 0) {
        return err;
    }
    head->path = parts.path;
    head->query = parts.query;
    return 0;
}

// RFC 9113 8.3.1: :authority, else Host; both must say the same.
static int decide_authority(const struct h2_section *section, struct http_head *head)
{
    head->authority = section->authority;
    if (has(section, FIELD_HOST)) {
        struct str host = http_head_value(head, FIELD_HOST);
        if ((section->repeated & FIELD_BIT(FIELD_HOST)) != 0) {
            return ERR_HOST_REPEATED;
        }
        if (section->pseudo[PSEUDO_AUTHORITY] == NULL) {
            head->authority = host;
        } else if (!str_eq_case(host, head->authority)) {
            return ERR_HOST;
        }
    }
    if (head->authority.len == 0) {
        return ERR_HOST_MISSING;
    }
    char name[URI_HOST_MAX + 1];
    size_t name_len;
    unsigned port;
    return uri_parse_host(head->authority, name, &name_len, &port);
}

static void fill(struct h2_section *section, struct http_head *head)
{
    seal(section);
    *head = (struct http_head){
        .version = 20,
        .keep_alive = true,
        .fields = section->fields,
        .field_count = section->count,
        .seen = section->seen,
    };
}

int h2_section_request(struct h2_section *section, bool ended, struct http_head *head)
{
    fill(section, head);
    head->method_text = section->method;
    head->target = section->target;
    head->authority = section->authority;
    if (section->err != 0) {
        return section->err;
    }
    int err = decide_method(section, head);
    if (err == 0) {
        err = decide_target(section, head);
    }
    if (err == 0) {
        err = decide_authority(section, head);
    }
    if (err == 0) {
        err = decide_body(section, ended, head);
    }
    if (err == 0 &&
        (has_connection_field(section) || (!head->upgrade && has(section, FIELD_UPGRADE)))) {
        err = ERR_PROTOCOL;
    }
    if (err != 0) {
        return err;
    }
    if (head->upgrade) {
        // What was CONNECT stands there as GET, at the place from which heads are copied.
        memcpy(section->text, "GET", 3);
        head->method_text = str_make(section->text, 3);
        head->body = BODY_NONE;
        head->body_len = 0;
    }
    head->expect_continue = !ended && http_head_has_token(head, FIELD_EXPECT, STR("100-continue"));
    head->te_trailers = http_head_has_token(head, FIELD_TE, STR("trailers"));
    return 0;
}

static int decide_status(const struct h2_section *section, struct http_head *head)
{
    uint64_t status;
    if (section->status.len != 3 || str_to_u64(section->status, &status) != 0 || status < 100) {
        return ERR_STATUS;
    }
    head->status = (unsigned)status;
    return 0;
}

int h2_section_response(struct h2_section *section, enum http_method method, bool ended,
                        struct http_head *head)
{
    fill(section, head);
    if (section->err != 0) {
        return section->err;
    }
    int err = decide_status(section, head);
    if (err == 0 && (has_connection_field(section) || has(section, FIELD_UPGRADE))) {
        err = ERR_PROTOCOL;
    }
    if (err == 0) {
        err = decide_body(section, ended, head);
    }
    if (err != 0) {
        return err;
    }
    if (head->status < 200 || head->status == 204 || head->status == 304 || method == METHOD_HEAD) {
        head->body = BODY_NONE;
        head->body_len = 0;
    }
    return 0;
}

int h2_section_trailers(struct h2_section *section, const struct http_field **fields,
                        unsigned *count)
{
    *fields = section->fields;
    *count = 0;
    if (section->err != 0) {
        return section->err;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < section->count; i++) {
        if (field_may_trail(section->fields[i].name, section->fields[i].id)) {
            section->fields[kept++] = section->fields[i];
        }
    }
    *count = kept;
    return 0;
}

// ---- sent ----

static void put_nv(struct h2_nva *nva, struct str name, struct str value, uint8_t flags)
{
    if (nva->count == H2_NV_MAX) {
        nva->overflow = true;
        return;
    }
    nva->nv[nva->count++] = (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.p,
        .value = (uint8_t *)(uintptr_t)(value.p == NULL ? "" : value.p),
        .namelen = name.len,
        .valuelen = value.len,
        .flags = flags,
    };
}

void h2_nva_put(struct h2_nva *nva, struct str name, struct str value)
{
    put_nv(nva, name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

void h2_nva_put_status(struct h2_nva *nva, unsigned status)
{
    INVARIANT(status >= 100 && status <= 999);
    nva->status[0] = (char)('0' + status / 100);
    nva->status[1] = (char)('0' + status / 10 % 10);
    nva->status[2] = (char)('0' + status % 10);
    h2_nva_put(nva, STR(":status"), str_make(nva->status, sizeof nva->status));
}

void h2_nva_put_length(struct h2_nva *nva, uint64_t len)
{
    char *end = nva->length + sizeof nva->length;
    char *at = end;
    do {
        *--at = (char)('0' + len % 10);
        len /= 10;
    } while (len > 0);
    h2_nva_put(nva, STR("content-length"), str_make(at, (size_t)(end - at)));
}

void h2_nva_put_fields(struct h2_nva *nva, const struct http_field *fields, unsigned count)
{
    const uint64_t not_sent = FIELD_BIT(FIELD_CONNECTION) | FIELD_BIT(FIELD_KEEP_ALIVE) |
                              FIELD_BIT(FIELD_PROXY_CONNECTION) |
                              FIELD_BIT(FIELD_TRANSFER_ENCODING) | FIELD_BIT(FIELD_UPGRADE) |
                              FIELD_BIT(FIELD_HTTP2_SETTINGS) | FIELD_BIT(FIELD_HOST);
    for (unsigned i = 0; i < count; i++) {
        const struct http_field *field = &fields[i];
        if (field->id != FIELD_OTHER && (FIELD_BIT(field->id) & not_sent) != 0) {
            continue;
        }
        if (field->id == FIELD_TE && !str_eq_case(field->value, STR("trailers"))) {
            continue;
        }
        put_nv(nva, field->name, field->value, NGHTTP2_NV_FLAG_NONE);
    }
}
