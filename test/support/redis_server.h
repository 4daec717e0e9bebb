// SPDX-License-Identifier: MIT
// A redis-server of a test's own: a folder under /tmp, a free port, a unix socket. It ends with the test,
// also with one that is killed.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct redis_server {
    pid_t pid; // 0: not running
    uint16_t port;
    char folder[64];
    char socket[96];
};

// A port that was free a moment ago.
uint16_t redis_server_free_port(void);
// A folder and a port. Ends the test if redis-server is not installed.
void redis_server_init(struct redis_server *server);
// Starts it with further arguments ("--requirepass", "x", NULL; or NULL) and waits until it answers. Again,
// after redis_server_kill(): on the same port.
void redis_server_start(struct redis_server *server, const char *const *arguments);
// A Sentinel instead, on that port, with a configuration.
void redis_server_start_sentinel(struct redis_server *server, const char *configuration);
void redis_server_signal(const struct redis_server *server, int number);
void redis_server_kill(struct redis_server *server);
// Kills it and removes the folder.
void redis_server_fini(struct redis_server *server);
// Sends a line ("CONFIG SET maxmemory 1") and reads the answer, at most size - 1 bytes, as Redis writes it
// ("+OK\r\n"). Nothing: it does not answer, for half a minute.
void redis_server_say(const struct redis_server *server, const char *line, char *answer,
                      size_t size);
