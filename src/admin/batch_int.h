// SPDX-License-Identifier: MIT
// A batch in parts: batch.c moves bytes and blocks, batch_line.c knows one line. Control thread.
#pragma once
#include "admin/admin_int.h"

enum {
    BATCH_BLOCK_LINES = 10000,
    BATCH_BLOCK_BYTES = 64 << 20, // keys and values of a block
    BATCH_LINE_MAX = 1 << 20,     // bytes of a line; as much is read ahead
    BATCH_DETAIL_MAX = 1000,      // failed lines of a block whose problems are kept
    BATCH_CHUNK_LEN = 32768,      // bytes of a piece of the answer
    BATCH_SPOOL_MAX = 64 << 20,   // bytes of answers that wait for their clients, over all batches
};

enum batch_state {
    BATCH_READ,  // takes lines into the block
    BATCH_STORE, // the block is with the store
    BATCH_EMIT,  // its answers are being written
    BATCH_DONE,  // all answers are written
};

// Answers that the client has not taken yet.
struct batch_chunk {
    struct list node;
    struct buf text;
};

struct batch_line {
    uint64_t number; // of the line in the body, from 1
    unsigned change; // index in the block's changes, when err is 0
    int err;         // it was refused before the store saw it
    char *errors;    // JSON array; NULL: none kept
};

struct batch {
    struct call *call;
    struct loop_task work;
    enum batch_state state;
    bool is_end;      // the body has ended
    bool is_paused;   // the client's bytes are not read
    bool is_skipping; // the rest of a line that is too long
    bool is_many;     // more than one block: status 200 whatever happens
    struct buf in;
    size_t in_at;
    uint64_t line_number;
    // The block.
    struct batch_line *lines; // BATCH_BLOCK_LINES at most
    unsigned line_count;
    unsigned line_size;
    struct store_change *changes;
    unsigned change_count;
    unsigned change_size;
    size_t bytes;
    unsigned failed_lines;         // refused before the store
    struct store_request *request; // answered; NULL: the block did not get there
    unsigned emitted;              // lines whose answers are written
    struct list chunks;
    // Over all blocks.
    uint64_t done;
    uint64_t failed;
    char lagging[1024]; // nodes that did not serve a block in time; "": none
};

// Reads one line of JSON into the block. Its faults become the line's answer.
void batch_take_line(struct batch *batch, struct str text);
// The same for a line that was never kept.
void batch_refuse_line(struct batch *batch, int err, const char *detail);
// Appends the answer of line `index` of the block.
void batch_put_answer(const struct batch *batch, unsigned index, struct buf *out);
// Has the block been done?
bool batch_is_done(const struct batch *batch);
// Forgets the block.
void batch_clear_block(struct batch *batch);
