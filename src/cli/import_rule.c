// SPDX-License-Identifier: MIT
// Two stacks, as a pocket calculator has them: of operators, and of what they are for. A value is a list
// of terms of which one must fit; "or" appends, "and" pairs each with each.
#include "cli/import_rule.h"
#include <stdio.h>

struct value {
    unsigned from; // in parser->terms; it ends where the next value begins
};

struct parser {
    struct str rest;
    char *reason;
    struct rule_term *terms; // of all values, in the order of the stack
    unsigned term_count;
    struct value values[RULE_DEPTH_MAX + 2];
    unsigned value_count;
    char operators[RULE_DEPTH_MAX]; // '(', '&', '|'
    unsigned operator_count;
};

// `about`: the part of the rule that is meant, or empty.
static int fail(struct parser *p, const char *why, struct str about)
{
    about = str_sub(about, 0, 60);
    snprintf(p->reason, RULE_REASON_MAX, "%s%s%.*s", why, about.len > 0 ? ": " : "",
             STR_ARG(about));
    return -1;
}

static void skip_blanks(struct parser *p)
{
    while (p->rest.len > 0 && (p->rest.p[0] == ' ' || p->rest.p[0] == '\t' ||
                               p->rest.p[0] == '\n' || p->rest.p[0] == '\r')) {
        p->rest = str_from(p->rest, 1);
    }
}

static bool take(struct parser *p, struct str token)
{
    skip_blanks(p);
    if (!str_starts(p->rest, token)) {
        return false;
    }
    p->rest = str_from(p->rest, token.len);
    return true;
}

// ---- terms ----

// Do both paths fit a request, and which is the narrower?
static bool meet_paths(struct str a, struct str b, struct str *both)
{
    struct str longer = a.len >= b.len ? a : b;
    struct str shorter = a.len >= b.len ? b : a;
    *both = longer;
    return str_starts(longer, shorter);
}

static bool meet(const struct rule_term *a, const struct rule_term *b, struct rule_term *both)
{
    if (a->host.len > 0 && b->host.len > 0 && !str_eq_case(a->host, b->host)) {
        return false;
    }
    both->host = a->host.len > 0 ? a->host : b->host;
    return meet_paths(a->path, b->path, &both->path);
}

static bool has_term(const struct rule_term *terms, unsigned count, const struct rule_term *term)
{
    for (unsigned i = 0; i < count; i++) {
        if (str_eq_case(terms[i].host, term->host) && str_eq(terms[i].path, term->path)) {
            return true;
        }
    }
    return false;
}

// The two newest values become one.
static int join(struct parser *p, char op)
{
    unsigned a = p->values[p->value_count - 2].from;
    unsigned b = p->values[p->value_count - 1].from;
    unsigned end = p->term_count;
    p->value_count--;
    if (op == '|') {
        return 0; // they stand one behind the other
    }
    struct rule_term met[RULE_TERM_MAX];
    unsigned count = 0;
    for (unsigned i = a; i < b; i++) {
        for (unsigned k = b; k < end; k++) {
            struct rule_term both;
            if (!meet(&p->terms[i], &p->terms[k], &both) || has_term(met, count, &both)) {
                continue;
            }
            if (count == RULE_TERM_MAX) {
                return fail(p, "the rule has more than 256 routes", STR_NULL);
            }
            met[count++] = both;
        }
    }
    memcpy(&p->terms[a], met, count * sizeof *met);
    p->term_count = a + count;
    return 0;
}

static int add_term(struct parser *p, struct str host, struct str path)
{
    struct rule_term term = {host, path};
    unsigned from = p->values[p->value_count - 1].from;
    if (has_term(p->terms + from, p->term_count - from, &term)) {
        return 0;
    }
    if (p->term_count == RULE_TERM_MAX) {
        return fail(p, "the rule has more than 256 routes", STR_NULL);
    }
    p->terms[p->term_count++] = term;
    return 0;
}

// ---- matchers ----

// `text` or "text". 1: taken; 0: there is none; -1: malformed.
static int take_text(struct parser *p, struct str *text)
{
    skip_blanks(p);
    if (p->rest.len == 0 || (p->rest.p[0] != '`' && p->rest.p[0] != '"')) {
        return 0;
    }
    char quote = p->rest.p[0];
    struct str inside = str_from(p->rest, 1);
    size_t len = str_find_char(inside, quote);
    if (len == SIZE_MAX) {
        return fail(p, "a text of the rule does not end", p->rest);
    }
    *text = str_sub(inside, 0, len);
    if (quote == '"' && str_find_char(*text, '\\') != SIZE_MAX) {
        return fail(p, "escapes in texts are not understood", *text);
    }
    p->rest = str_from(inside, len + 1);
    return 1;
}

static int add_host(struct parser *p, struct str host)
{
    if (host.len == 0) {
        return fail(p, "a host is empty", STR_NULL);
    }
    // Two stars: any depth, as here one star says it.
    return add_term(p, str_starts(host, STR("**.")) ? str_from(host, 1) : host, STR_NULL);
}

// A pattern that any host fits, in the spelling of version 2 or 3.
static bool is_any_host(struct str pattern)
{
    static const struct str all[] = {{".+", 2}, {".*", 2}, {"^.+$", 4}, {"^.*$", 4}};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (str_eq(pattern, all[i])) {
            return true;
        }
    }
    struct str name;
    struct str rest;
    return str_starts(pattern, STR("{")) && str_split(pattern, ':', &name, &rest) &&
           (str_eq(rest, STR(".+}")) || str_eq(rest, STR(".*}")));
}

static int add_host_pattern(struct parser *p, struct str pattern)
{
    return is_any_host(pattern)
               ? add_term(p, STR_NULL, STR_NULL)
               : fail(p, "patterns of hosts are not understood, but that for any", pattern);
}

static int add_prefix(struct parser *p, struct str path)
{
    if (path.len == 0 || path.p[0] != '/') {
        return fail(p, "a path does not begin with '/'", path);
    }
    if (str_find_char(path, '{') != SIZE_MAX) {
        return fail(p, "patterns in paths are not understood", path);
    }
    return add_term(p, STR_NULL, path.len == 1 ? STR_NULL : path);
}

static struct str take_name(struct parser *p)
{
    skip_blanks(p);
    size_t len = 0;
    while (len < p->rest.len &&
           ((ascii_lower(p->rest.p[len]) >= 'a' && ascii_lower(p->rest.p[len]) <= 'z') ||
            ascii_is_digit(p->rest.p[len]))) {
        len++;
    }
    struct str name = str_sub(p->rest, 0, len);
    p->rest = str_from(p->rest, len);
    return name;
}

static const struct {
    struct str name;
    int (*add)(struct parser *p, struct str text);
} matchers[] = {
    {{"Host", 4}, add_host},
    {{"HostHeader", 10}, add_host},
    {{"HostRegexp", 10}, add_host_pattern},
    {{"PathPrefix", 10}, add_prefix},
};
enum { MATCHERS = sizeof matchers / sizeof matchers[0] };

// Host(`a`, `b`): a value.
static int take_matcher(struct parser *p)
{
    struct str name = take_name(p);
    if (name.len == 0) {
        return fail(
            p, p->rest.len == 0 ? "the rule ends too early" : "the rule is not understood here",
            p->rest);
    }
    unsigned which = 0;
    while (which < MATCHERS && !str_eq_case(name, matchers[which].name)) {
        which++;
    }
    if (which == MATCHERS) {
        return fail(p, "routes know hosts and path prefixes, but not this", name);
    }
    if (!take(p, STR("("))) {
        return fail(p, "a '(' is missing behind a name", name);
    }
    p->values[p->value_count++] = (struct value){p->term_count};
    do {
        struct str text;
        int taken = take_text(p, &text);
        if (taken <= 0) {
            return taken < 0 ? -1 : fail(p, "a text in backticks is missing", name);
        }
        if (matchers[which].add(p, text) != 0) {
            return -1;
        }
    } while (take(p, STR(",")));
    return take(p, STR(")")) ? 0 : fail(p, "a ')' is missing behind a name", name);
}

// ---- operators ----

static int push(struct parser *p, char op)
{
    if (p->operator_count == RULE_DEPTH_MAX) {
        return fail(p, "the rule is nested too deeply", STR_NULL);
    }
    p->operators[p->operator_count++] = op;
    return 0;
}

// Does what is open and binds at least as tightly; stops at a parenthesis.
static int reduce(struct parser *p, char op)
{
    while (p->operator_count > 0) {
        char top = p->operators[p->operator_count - 1];
        if (top == '(' || (op == '&' && top == '|')) {
            return 0;
        }
        p->operator_count--;
        if (join(p, top) != 0) {
            return -1;
        }
    }
    return 0;
}

// All that may stand before an operator: parentheses and a matcher.
static int take_operand(struct parser *p)
{
    while (take(p, STR("("))) {
        if (push(p, '(') != 0) {
            return -1;
        }
    }
    if (take(p, STR("!"))) {
        return fail(p, "\"!\" is not understood: routes cannot say what they are not for",
                    STR_NULL);
    }
    return take_matcher(p);
}

static int take_closing(struct parser *p)
{
    while (take(p, STR(")"))) {
        if (reduce(p, '|') != 0) {
            return -1;
        }
        if (p->operator_count == 0) {
            return fail(p, "a ')' has no '('", STR_NULL);
        }
        p->operator_count--;
    }
    return 0;
}

static int parse(struct parser *p)
{
    for (;;) {
        if (take_operand(p) != 0 || take_closing(p) != 0) {
            return -1;
        }
        char op = take(p, STR("&&")) ? '&' : take(p, STR("||")) ? '|' : '\0';
        if (op == '\0') {
            break;
        }
        if (reduce(p, op) != 0 || push(p, op) != 0) {
            return -1;
        }
    }
    skip_blanks(p);
    if (p->rest.len > 0) {
        return fail(p, "the rule is not understood here", p->rest);
    }
    if (reduce(p, '|') != 0) {
        return -1;
    }
    return p->operator_count == 0 ? 0 : fail(p, "a '(' is not closed", STR_NULL);
}

int rule_parse(struct str text, struct rule *rule, char reason[RULE_REASON_MAX])
{
    struct parser parser = {.rest = text, .reason = reason, .terms = rule->terms};
    rule->count = 0;
    reason[0] = '\0';
    if (text.len > RULE_TEXT_MAX) {
        return fail(&parser, "the rule is longer than 16 KiB", STR_NULL);
    }
    if (parse(&parser) != 0) {
        return -1;
    }
    // A host that came before in an "or" may stand there again.
    for (unsigned i = 0; i < parser.term_count; i++) {
        if (!has_term(rule->terms, rule->count, &rule->terms[i])) {
            rule->terms[rule->count++] = rule->terms[i];
        }
    }
    return 0;
}
