// SPDX-License-Identifier: MIT
// The bodies of Ceryx' API. What is not known in them counts for nothing, as there.
#include "admin/ceryx_api.h"

static bool is_one_of(struct str text, const char *const *words)
{
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (str_eq_case(text, str_from_c(words[i]))) {
            return true;
        }
    }
    return false;
}

// What Ceryx takes as a boolean. False: it is none.
static bool read_bool(const json_t *value, bool *to)
{
    static const char *const yes[] = {"true", "on", "1", NULL};
    static const char *const no[] = {"false", "off", "0", "", NULL};
    *to = json_is_true(value);
    if (value == NULL || json_is_boolean(value) || json_is_null(value)) {
        return true;
    }
    if (json_is_integer(value)) {
        *to = json_integer_value(value) == 1;
        return json_integer_value(value) == 0 || *to;
    }
    if (json_is_string(value)) {
        struct str text = str_from_c(json_string_value(value));
        *to = is_one_of(text, yes);
        return *to || is_one_of(text, no);
    }
    return false;
}

static int read_path(const json_t *settings, const char *name, struct str *to,
                     struct problems *problems)
{
    const json_t *value = json_object_get(settings, name);
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/settings/%s", name);
    if (!json_is_string(value)) {
        return problems_add(problems, ERR_INVALID, pointer, "%s: must be text or null", name);
    }
    *to = str_from_c(json_string_value(value));
    if (to->len > CERYX_PATH_MAX) {
        return problems_add(problems, ERR_INVALID, pointer, "%s: is longer than %d bytes", name,
                            CERYX_PATH_MAX);
    }
    to->p = to->len == 0 ? NULL : to->p; // "" is none
    return 0;
}

static int read_settings(const json_t *settings, struct ceryx_body *body, struct problems *problems)
{
    struct ceryx_source *source = &body->source;
    source->enforce_https = STR("0");
    source->mode = STR("proxy");
    if (settings == NULL || json_is_null(settings)) {
        return 0;
    }
    if (!json_is_object(settings)) {
        return problems_add(problems, ERR_INVALID, "/settings", "settings: must be an object");
    }
    bool is_enforced = false;
    if (!read_bool(json_object_get(settings, "enforce_https"), &is_enforced)) {
        return problems_add(problems, ERR_INVALID, "/settings/enforce_https",
                            "enforce_https: must be true or false");
    }
    source->enforce_https = is_enforced ? STR("1") : STR("0");
    const json_t *mode = json_object_get(settings, "mode");
    if (mode != NULL) {
        struct str text = str_from_c(json_string_value(mode));
        if (!str_eq(text, STR("proxy")) && !str_eq(text, STR("redirect"))) {
            return problems_add(problems, ERR_INVALID, "/settings/mode",
                                "mode: must be \"proxy\" or \"redirect\"");
        }
        source->mode = text;
    }
    body->names_certificate = json_object_get(settings, "certificate_path") != NULL ||
                              json_object_get(settings, "key_path") != NULL;
    int err = read_path(settings, "certificate_path", &source->certificate_path, problems);
    return err != 0 ? err : read_path(settings, "key_path", &source->key_path, problems);
}

static int read_text(const json_t *tree, const char *name, struct str *to,
                     struct problems *problems)
{
    const json_t *value = json_object_get(tree, name);
    char pointer[32];
    snprintf(pointer, sizeof pointer, "/%s", name);
    if (value == NULL) {
        return problems_add(problems, ERR_INVALID, pointer, "%s: is missing", name);
    }
    if (!json_is_string(value)) {
        return problems_add(problems, ERR_INVALID, pointer, "%s: must be text", name);
    }
    *to = str_from_c(json_string_value(value));
    return 0;
}

int ceryx_read_body(struct call *call, bool with_source, struct ceryx_body *body,
                    struct problems *problems)
{
    *body = (struct ceryx_body){0};
    if (call->body.len == 0) {
        return problems_add(problems, ERR_SYNTAX, "", "the body is empty: a JSON object is needed");
    }
    body->tree = model_json_parse(buf_str(&call->body), problems);
    if (body->tree == NULL) {
        return problems->err;
    }
    int err = 0;
    if (!json_is_object(body->tree)) {
        err = problems_add(problems, ERR_INVALID, "", "the body must be a JSON object");
    }
    if (err == 0 && with_source) {
        err = read_text(body->tree, "source", &body->source.host, problems);
    }
    if (err == 0) {
        err = read_text(body->tree, "target", &body->source.target, problems);
    }
    if (err == 0) {
        err = read_settings(json_object_get(body->tree, "settings"), body, problems);
    }
    if (err != 0) {
        ceryx_body_fini(body);
    }
    return err;
}

void ceryx_body_fini(struct ceryx_body *body)
{
    json_decref(body->tree);
    *body = (struct ceryx_body){0};
}
