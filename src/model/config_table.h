// SPDX-License-Identifier: MIT
// Every setting of a node: the one source for parsing, defaults, ranges, --help and the reference page.
//
//   X(path, kind, member, default, min, max, words, help)   one value
//   L(path, kind, member, max, default, help)               a list: member and member_count
//
// Kinds, and what min and max mean: TEXT (bytes), ADDRESS, BOOL, UINT (value), WORKERS, SIZE (bytes),
// DURATION (ms), WORD (of words), STORE (a store's URL), PATH (bytes), ADDRESSES, CIDRS, SERVERS (of DNS).
#pragma once

#define CONFIG_HOUR_MS 3600000u
#define CONFIG_DAY_MS  86400000u

#define CONFIG_TABLE(X, L)                                                                        \
    X("node.name", TEXT, node.name, "", 0, 200, NULL,                                             \
      "Name of this node; empty: the host's name and an id kept in store.local")                  \
    X("node.zone", TEXT, node.zone, "", 0, 200, NULL, "Zone of this node")                        \
    L("listen.http", ADDRESSES, listen.http, listen.http_count, ":8080",                          \
      "Addresses for HTTP: HOST:PORT, [V6]:PORT, :PORT (all addresses) or unix:/PATH")            \
    L("listen.https", ADDRESSES, listen.https, listen.https_count, ":8443",                       \
      "Addresses for HTTPS, as those for HTTP; one that is given replaces all that are default")  \
    X("listen.proxy_protocol", BOOL, listen.proxy_protocol, "false", 0, 0, NULL,                  \
      "Take PROXY headers (v1, v2) from trusted_proxies")                                         \
    X("listen.half_close", BOOL, listen.half_close, "false", 0, 0, NULL,                          \
      "A client's FIN after its request does not cancel the request")                             \
    X("https_port", UINT, https_port, "443", 1, 65535, NULL,                                      \
      "Public port for HTTPS that redirects name")                                                \
    L("trusted_proxies", CIDRS, trusted_proxies, trusted_proxy_count, "",                         \
      "Networks whose X-Forwarded-* and Forwarded headers are believed")                          \
    X("admin.address", ADDRESS, admin.address, "127.0.0.1:8081", 0, 0, NULL,                      \
      "Address of the admin API: HOST:PORT or unix:/PATH")                                        \
    X("admin.token_file", PATH, admin.token_file, "admin.token", 1, 4000, NULL,                   \
      "File of the admin token; made at the first start")                                         \
    X("admin.require_token", BOOL, admin.require_token, "false", 0, 0, NULL,                      \
      "Ask for the token from loopback and unix sockets too")                                     \
    X("store.url", STORE, store.url, "sqlite:pointsman.db", 0, 4000, NULL,                        \
      "Where declarations are kept: sqlite:FILE, file:FOLDER of YAML and JSON files, or redis:")  \
    X("store.local", PATH, store.local, "", 0, 4000, NULL,                                        \
      "Local file of declarations; empty: the file of a sqlite: store, else pointsman.db")        \
    X("store.prefix", TEXT, store.prefix, "pointsman", 1, 100, NULL,                              \
      "Prefix of all keys in Redis")                                                              \
    X("store.password_file", PATH, store.password_file, "", 0, 4000, NULL,                        \
      "File with the password for Redis; empty: the one in store.url")                            \
    X("store.ca_file", PATH, store.ca_file, "", 0, 4000, NULL,                                    \
      "PEM file of the CAs that rediss: trusts; empty: those of the system")                      \
    X("store.certificate_file", PATH, store.certificate_file, "", 0, 4000, NULL,                  \
      "PEM file of the client certificate that rediss: shows; empty: none")                       \
    X("store.key_file", PATH, store.key_file, "", 0, 4000, NULL,                                  \
      "PEM file of the key of store.certificate_file")                                            \
    X("store.verify", BOOL, store.verify, "true", 0, 0, NULL,                                     \
      "Check the certificate and name of a rediss: server")                                       \
    X("store.encryption_key_file", PATH, store.encryption_key_file, "", 0, 4000, NULL,            \
      "File of the keys that encrypt secrets in the store; empty: they are kept as they are")     \
    X("store.accept_empty", BOOL, store.accept_empty, "false", 0, 0, NULL,                        \
      "Take an empty store (a folder, or Redis) for the truth: delete all that is held")          \
    X("store.wait_replicas", UINT, store.wait_replicas, "0", 0, 100, NULL,                        \
      "Replicas of Redis that must have a change before it is answered")                          \
    X("store.stream_entries", UINT, store.stream_entries, "100000", 100, 100000000, NULL,         \
      "Changes that Redis keeps in the stream; a node that missed more reads everything anew")    \
    X("store.stream_bytes", SIZE, store.stream_bytes, "64m", 1 << 20, 1ll << 40, NULL,            \
      "Bytes of changes that Redis keeps in the stream, about")                                   \
    X("tls.profile", WORD, tls.profile, "intermediate", 0, 0, tls_profile_words,                  \
      "Versions and ciphers: TLS 1.2 and 1.3, or (modern) 1.3 alone")                             \
    X("tls.unknown_sni", WORD, tls.unknown_sni, "default", 0, 0, unknown_sni_words,               \
      "A name without a certificate: the default one, or the handshake is refused")               \
    X("tls.default_certificate", PATH, tls.default_certificate, "", 0, 4000, NULL,                \
      "PEM file with chain and key of the default certificate; empty: one made by this node")     \
    X("tls.default_key", PATH, tls.default_key, "", 0, 4000, NULL,                                \
      "PEM file with the key of tls.default_certificate; empty: it is in the same file")          \
    X("workers", WORKERS, workers, "auto", 1, 256, NULL,                                          \
      "Threads that carry traffic; auto: as many as there are CPUs")                              \
    L("dns.servers", SERVERS, dns.servers, dns.server_count, "",                                  \
      "DNS servers, ADDRESS or ADDRESS:PORT; none: those of the system")                          \
    X("dns.timeout", DURATION, dns.timeout_ms, "2s", 10, 60000, NULL,                             \
      "For one try of a question to a DNS server")                                                \
    X("dns.min_ttl", DURATION, dns.min_ttl_ms, "1s", 100, CONFIG_DAY_MS, NULL,                    \
      "Names are asked for again after this at the earliest")                                     \
    X("dns.max_ttl", DURATION, dns.max_ttl_ms, "300s", 100, CONFIG_DAY_MS, NULL,                  \
      "Names are asked for again after this at the latest")                                       \
    X("paths", WORD, paths, "strict", 0, 0, paths_words,                                          \
      "What is done with %2F, %5C and backslashes in paths: refuse or pass")                      \
    X("limits.header_bytes", SIZE, limits.header_bytes, "32k", 1024, 1 << 20, NULL,               \
      "Bytes of a message's head; more is answered with 431")                                     \
    X("limits.headers", UINT, limits.headers, "100", 1, 200, NULL,                                \
      "Header fields of a message; more are answered with 431")                                   \
    X("limits.body", SIZE, limits.body, "0", 0, INT64_MAX, NULL,                                  \
      "Bytes of a request's body, 0: no bound; more are answered with 413")                       \
    X("limits.connections", UINT, limits.connections, "100000", 1, 10000000, NULL,                \
      "Client connections of this node")                                                          \
    X("limits.buffers", SIZE, limits.buffers, "1g", 4 << 20, 1ll << 40, NULL,                     \
      "Bytes of bodies held for slow peers and for later attempts, on this node")                 \
    X("limits.certificates_loaded", UINT, limits.certificates_loaded, "20000", 1, 10000000, NULL, \
      "Certificates kept parsed on this node; the least recently used ones are dropped")          \
    X("limits.certificate_waits", UINT, limits.certificate_waits, "1000", 1, 10000000, NULL,      \
      "Handshakes that wait for a certificate to be loaded; more are refused")                    \
    X("limits.handshakes", UINT, limits.handshakes, "16", 1, 10000, NULL,                         \
      "Full TLS handshakes that a worker begins in one turn of its loop; others wait for a turn") \
    X("limits.h2_streams", UINT, limits.h2_streams, "100", 1, 10000, NULL,                        \
      "Open streams of one HTTP/2 connection; more are refused")                                  \
    X("limits.health_checks", UINT, limits.health_checks, "1000", 1, 1000000, NULL,               \
      "Health checks under way at a time; others wait for their turn")                            \
    X("timeouts.header", DURATION, timeouts.header_ms, "10s", 1, 24 * CONFIG_DAY_MS, NULL,        \
      "Until a request's head is complete")                                                       \
    X("timeouts.idle", DURATION, timeouts.idle_ms, "60s", 1, 24 * CONFIG_DAY_MS, NULL,            \
      "Between two requests of a client connection")                                              \
    X("timeouts.connect", DURATION, timeouts.connect_ms, "1s", 1, 24 * CONFIG_DAY_MS, NULL,       \
      "To connect to a target")                                                                   \
    X("timeouts.response", DURATION, timeouts.response_ms, "60s", 1, 24 * CONFIG_DAY_MS, NULL,    \
      "Until a target's response head is there")                                                  \
    X("timeouts.tunnel_idle", DURATION, timeouts.tunnel_idle_ms, "1h", 1, 24 * CONFIG_DAY_MS,     \
      NULL, "A tunnel (WebSocket) without data")                                                  \
    X("timeouts.request", DURATION, timeouts.request_ms, "0", 0, 24 * CONFIG_DAY_MS, NULL,        \
      "A whole exchange with all its attempts, but tunnels; 0: no bound")                         \
    X("timeouts.drain", DURATION, timeouts.drain_ms, "30s", 0, 24 * CONFIG_DAY_MS, NULL,          \
      "For requests and tunnels to end when the program is told to stop")                         \
    X("access_log.file", PATH, access_log.file, "access.log", 0, 4000, NULL,                      \
      "File of the access log; - is standard output, empty is off")                               \
    X("access_log.format", WORD, access_log.format, "json", 0, 0, access_log_words,               \
      "Form of the access log")                                                                   \
    X("log.level", WORD, log.level, "info", 0, 0, log_words,                                      \
      "The least level of messages in the program's own log, on standard error")                  \
    X("ceryx.enabled", BOOL, ceryx.enabled, "false", 0, 0, NULL,                                  \
      "Serve the API, the keys and the ways of Ceryx")                                            \
    X("ceryx.prefix", TEXT, ceryx.prefix, "ceryx", 1, 100, NULL, "Prefix of Ceryx keys in Redis") \
    X("ceryx.miss_timeout", DURATION, ceryx.miss_timeout_ms, "50ms", 1, 10000, NULL,              \
      "So long at most a request for an unknown host waits for a look-up in Redis")               \
    X("ceryx.api_address", ADDRESS, ceryx.api_address, "", 0, 0, NULL,                            \
      "Address of a listener for /api/ alone, which asks for no token; empty: none")
