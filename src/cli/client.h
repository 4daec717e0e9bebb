// SPDX-License-Identifier: MIT
// The admin API as the commands see it: one kept connection, calls one after the other. Main thread.
#pragma once
#include "base/buf.h"
#include "cli/command.h"
#include <jansson.h>

struct client;

struct answer {
    unsigned status;
    struct buf body;
};

// Finds the address (--admin, POINTSMAN_ADMIN, --config, default), whom to trust there (--ca, --insecure)
// and the token (POINTSMAN_TOKEN, token file). Returns the exit status: CLI_DONE and *client, or another
// after printing why.
int client_open(const struct args *args, struct client **client);
void client_close(struct client **client);
// One call; `type` NULL: without a body. CLI_DONE: there is an answer of some status (answer_fini() in
// any case); CLI_FAILED: there is none, and why was printed.
int client_call(struct client *client, const char *method, const char *path, const char *type,
                struct str body, struct answer *answer);
// The same for a GET whose answer may be long: 200 is given to `take` as it comes, which returns false
// to give up; any other answer is in `answer`.
int client_read(struct client *client, const char *path,
                bool (*take)(void *context, struct str data), void *context, struct answer *answer);
// How long a call may be without a byte; 0: for ever. The default is two minutes.
void client_set_stall(struct client *client, unsigned seconds);
void answer_fini(struct answer *answer);
// The body as JSON (a new reference); NULL: it is none, printed.
json_t *client_answer_json(const struct answer *answer);
// Prints what an answer of 300 or above says, "subject: pointer: detail"; returns CLI_FAILED.
int answer_report(const struct answer *answer, const char *subject);

// Paths of calls. A key keeps its '/'; everything else that is not unreserved is escaped.
void path_put_key(struct buf *path, struct str key);
// '/' is escaped as well.
void path_put_segment(struct buf *path, struct str segment);

// "127.0.0.1:8081" for an admin address as the server takes it (":8081", "0.0.0.0:8081"), or with
// "http://" or "https://" in front of it; unix:/PATH as it is. Writes to[size].
void client_address(const char *configured, char *to, size_t size);
bool client_is_https(const char *configured);
// Does an address as client_address() gives it name this machine? localhost, 127.0.0.0/8, [::1], unix:.
bool client_is_local(const char *address);
