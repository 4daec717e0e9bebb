// SPDX-License-Identifier: MIT
// lua-resty-auto-ssl: "DOMAIN:latest" is the JSON {fullchain_pem, privkey_pem, cert_pem, expiry} of the
// certificate that is served for that name; "DOMAIN:MILLISECONDS" are older ones, "DOMAIN:challenge:PATH" and
// "DOMAIN:issue_cert_lock" belong to the moment of issue. With a prefix: "PREFIX:" in front of all.
#include "cli/import_int.h"
#include "cli/input.h"

// The part behind the prefix; false: another's key.
static bool strip(const struct import *import, struct str *key)
{
    if (import->prefix.len == 0) {
        return true;
    }
    if (!str_starts(*key, import->prefix) || key->len <= import->prefix.len ||
        key->p[import->prefix.len] != ':') {
        return false;
    }
    *key = str_from(*key, import->prefix.len + 1);
    return true;
}

static bool is_number(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!ascii_is_digit(text.p[i]) && text.p[i] != '.') {
            return false;
        }
    }
    return text.len > 0;
}

static bool wants(struct import *import, struct str key)
{
    struct str name = key;
    if (!strip(import, &name)) {
        import->others++;
        return false;
    }
    if (str_ends(name, STR(":latest"))) {
        return true;
    }
    struct str last = str_from(name, str_rfind_char(name, ':') + 1); // SIZE_MAX + 1 is 0
    if (str_find(name, STR(":challenge:")) != SIZE_MAX || str_ends(name, STR(":issue_cert_lock"))) {
        import_tell(import, IMPORT_IGNORED, key, "it belongs to the moment of issue");
    } else if (last.len < name.len && is_number(last)) {
        import_tell(import, IMPORT_IGNORED, key, "an older certificate: the latest is taken");
    } else {
        import->others++;
    }
    return false;
}

static unsigned command(struct str words[4])
{
    words[0] = STR("GETRANGE");
    words[2] = STR("0");
    words[3] = STR("1048576"); // one byte more than IMPORT_VALUE_MAX
    return 4;
}

json_t *auto_ssl_certificate(struct str domain, struct str text, const char **why)
{
    struct problems problems;
    problems_init(&problems);
    json_t *value = text.len > IMPORT_VALUE_MAX ? NULL : model_json_parse(text, &problems);
    problems_fini(&problems);
    const char *chain = json_string_value(json_object_get(value, "fullchain_pem"));
    const char *key = json_string_value(json_object_get(value, "privkey_pem"));
    json_t *certificate = NULL;
    if (value == NULL) {
        *why = text.len > IMPORT_VALUE_MAX ? "longer than 1 MiB" : "it is not JSON";
    } else if (chain == NULL || key == NULL) {
        *why = "fullchain_pem and privkey_pem are not both there";
    } else if (strstr(key, "ENCRYPTED") != NULL) {
        *why = "the private key is encrypted";
    } else {
        // It was served for this name only, whatever other names it has.
        certificate = json_pack("{s:s,s:s,s:[s%]}", "chain", chain, "key", key, "hosts", domain.p,
                                domain.len);
        *why = "out of memory, or texts that are not UTF-8";
    }
    json_wipe_member(value, "privkey_pem");
    json_decref(value);
    return certificate;
}

static void take(struct import *import, void *context, struct str key,
                 const struct redis_reply *reply)
{
    (void)context;
    struct str domain = key;
    if (!strip(import, &domain)) {
        return;
    }
    domain = str_sub(domain, 0, domain.len - (sizeof ":latest" - 1));
    const char *why;
    json_t *certificate = auto_ssl_certificate(domain, reply->text, &why);
    if (certificate == NULL) {
        import_tell(import, IMPORT_LEFT_OUT, key, "%s", why);
        return;
    }
    import_put(import, key, NOUN_CERTIFICATE, domain, certificate);
}

void import_auto_ssl(struct import *import)
{
    const struct import_source source = {.wants = wants, .command = command, .take = take};
    struct buf prefix;
    buf_init(&prefix, 0);
    if (import->prefix.len > 0) {
        buf_put(&prefix, import->prefix);
        buf_put_char(&prefix, ':');
    }
    if (prefix.failed) {
        import_fail(import, "out of memory");
    } else {
        import_read(import, buf_str(&prefix), &source);
    }
    buf_fini(&prefix);
}
