// SPDX-License-Identifier: MIT
// The configuration of a node, from file, environment and flags (flag over environment over file).
// Read once at start; constant after. One X-macro table is the source for parsing, defaults, ranges,
// `--help` and the reference page.
#pragma once
#include "base/log.h"
#include "model/declaration.h"
#include "model/problem.h"
#include <stdio.h>

enum { CONFIG_LISTEN_MAX = 16, CONFIG_ADDRESS_MAX = 128 };

enum tls_profile_setting { TLS_PROFILE_INTERMEDIATE, TLS_PROFILE_MODERN };
enum unknown_sni { UNKNOWN_SNI_DEFAULT, UNKNOWN_SNI_REJECT };
enum paths_mode { PATHS_STRICT, PATHS_LOOSE };
enum access_log_format { ACCESS_LOG_JSON, ACCESS_LOG_COMBINED };

struct config {
    struct {
        char *name; // "" : hostname and an id kept in store.local
        char *zone;
    } node;
    struct {
        char *http[CONFIG_LISTEN_MAX]; // "0.0.0.0:8080", "[::]:8080", ":8080" (all), "unix:/path"
        unsigned http_count;
        char *https[CONFIG_LISTEN_MAX];
        unsigned https_count;
        bool proxy_protocol;
        bool half_close;
        bool is_declared; // an address was given: none of the default ones holds any more
    } listen;
    unsigned https_port;
    struct cidr *trusted_proxies; // malloc
    unsigned trusted_proxy_count;
    struct {
        char *address;
        char *token_file;
        char *token; // from POINTSMAN_TOKEN; "" : from the file
        bool require_token;
    } admin;
    struct {
        char *url;         // sqlite:FILE, file:FOLDER, redis://… and its kin (redis/redis.h)
        char *local;       // path; default: the file of a sqlite: url, else pointsman.db
        bool local_is_set; // declared; else it follows the url
        char *encryption_key_file;
        bool accept_empty;
        char *prefix;           // of keys in Redis
        char *password_file;    // of Redis; "": the URL's
        char *ca_file;          // rediss: "": the system's CAs
        char *certificate_file; // rediss: a client certificate; ""
        char *key_file;
        bool verify;            // rediss: the server's certificate and name
        unsigned wait_replicas; // 0: none
        unsigned stream_entries;
        uint64_t stream_bytes;
    } store;
    struct {
        bool enabled;
        char *prefix;
        unsigned miss_timeout_ms;
        char *api_address; // a listener for /api/ alone, without a token; "": none
    } ceryx;
    struct {
        enum tls_profile_setting profile;
        enum unknown_sni unknown_sni;
        char *default_certificate; // PEM file with certificate chain and key; "": made by the node
        char *default_key;         // PEM file of its key; "": in the same file
    } tls;
    unsigned workers; // 0: auto
    struct {
        char *servers[CONFIG_LISTEN_MAX]; // "10.0.0.2", "127.0.0.1:5353"; none: those of the system
        unsigned server_count;
        unsigned timeout_ms; // 2 s: of one try
        unsigned min_ttl_ms; // 1 s: names are asked for again at the earliest then
        unsigned max_ttl_ms; // 300 s
    } dns;
    enum paths_mode paths;
    struct {
        uint64_t header_bytes;        // 32k
        unsigned headers;             // 100, at most 200
        uint64_t body;                // 0: no bound
        unsigned connections;         // 100000
        uint64_t buffers;             // 1g
        unsigned certificates_loaded; // 20000: parsed and kept
        unsigned certificate_waits;   // 1000: handshakes that wait for one
        unsigned handshakes;          // 16: full handshakes a worker begins in one turn of its loop
        unsigned h2_streams;          // 100: open streams of one HTTP/2 connection
        unsigned health_checks;       // 1000: under way at a time; others wait for their turn
    } limits;
    struct {
        unsigned header_ms, idle_ms, connect_ms, response_ms, tunnel_idle_ms, drain_ms;
        unsigned request_ms; // 0: no bound
    } timeouts;
    struct {
        char *file; // "-": standard output, "": off
        enum access_log_format format;
    } access_log;
    struct {
        enum log_level level; // of the program's own log
    } log;
};

// All texts are malloc'ed and never NULL; "" is none.
//
// Defaults. 0, or ERR_MEMORY.
int config_init(struct config *config) WARN_UNUSED;
void config_fini(struct config *config);
// Reads a YAML file (one document, at most 1 MiB) over what is there. Messages go to `problems` with
// pointer "FILE:LINE:COLUMN". A null value or an empty section leaves what is there. 0, or a negative err;
// then some of the settings may have been taken.
int config_read_file(struct config *config, const char *path,
                     struct problems *problems) WARN_UNUSED;
int config_read_text(struct config *config, const char *name, struct str text,
                     struct problems *problems) WARN_UNUSED;
// All POINTSMAN_… variables of the environment; an unknown one is a problem with the nearest name
// (POINTSMAN_TOKEN is admin.token, POINTSMAN_CONFIG is left to the caller; POINTSMAN_STORE,
// POINTSMAN_HTTP, POINTSMAN_HTTPS, POINTSMAN_ADMIN, POINTSMAN_LOG and POINTSMAN_CERYX are short forms).
// POINTSMAN_PORT… and POINTSMAN_SERVICE_… are passed over: an orchestrator sets them for a service of
// that name. Pointer: the variable's name.
int config_read_environment(struct config *config, char **environment,
                            struct problems *problems) WARN_UNUSED;
// The CERYX_… variables, as settings; for a node with ceryx.enabled alone. What POINTSMAN_… says of the same
// settings counts more: this comes before config_read_environment(). An empty one counts as none; those that
// are not known are logged, in one line. Pointer: the variable's name. 0, or a negative err.
int config_read_ceryx(struct config *config, char **environment,
                      struct problems *problems) WARN_UNUSED;
// The folder of a file: store as it was given; NULL: another store. Lives as long as the configuration.
const char *config_store_folder(const struct config *config);
// Is the store Redis, by its URL? Then its local file is a replica.
bool config_store_is_redis(const struct config *config);
// One setting by its path, as --set a.b=value. Lists: comma separated; `append` adds to a list that
// an earlier flag began (--http twice) instead of replacing it. `origin` is the problem's pointer, as
// "--set limits.body". 0, or ERR_INVALID.
int config_set(struct config *config, struct str path, struct str value, bool append,
               const char *origin, struct problems *problems) WARN_UNUSED;
// What only the whole can tell (ranges against each other). 0, or a negative err.
int config_check(const struct config *config, struct problems *problems) WARN_UNUSED;

// The table of settings, for --help and the reference page.
struct config_setting {
    struct str path;     // "limits.header_bytes"
    const char *type;    // "size", "duration", "list of addresses", …
    const char *initial; // the default, as text; "" for none
    const char *range;   // "1k to 1m", "json, combined", or ""
    const char *help;    // one sentence without a period
    char variable[64];   // "POINTSMAN_LIMITS_HEADER_BYTES"
    char range_text[64]; // what `range` may point to
};
// False when there is no setting number i (from 0). *setting is filled; it must not be moved.
bool config_table_next(unsigned i, struct config_setting *setting);
// All settings of this version, a few lines each.
void config_print_help(FILE *file);
