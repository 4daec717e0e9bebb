// SPDX-License-Identifier: MIT
// POST /v1/batch: newline-delimited JSON in, a line out for each line in.
//
//   bytes ─► lines ─► block of up to 10,000 changes ─► store (one revision) ─► answers ─► next block
//
// Many clients send all before they read anything: answers wait in chunks, up to BATCH_SPOOL_MAX.
// Beyond that, and while a block is with the store, nothing is read.
#include "admin/batch_int.h"
#include "base/clock.h"

static void free_chunk(struct batch *batch, struct batch_chunk *chunk)
{
    batch->call->admin->batch_spooled -= chunk->text.len;
    list_remove(&chunk->node);
    buf_fini(&chunk->text);
    free(chunk);
}

static void free_batch(struct call *call)
{
    struct batch *batch = call->state;
    loop_task_cancel(&batch->work);
    batch_clear_block(batch);
    LIST_FOR_EACH_SAFE (node, &batch->chunks) {
        free_chunk(batch, CONTAINER_OF(node, struct batch_chunk, node));
    }
    free(batch->lines);
    free(batch->changes);
    secret_wipe_buf(&batch->in);
    buf_fini(&batch->in);
    free(batch);
    call->admin->batch_count--;
}

static void pause_input(struct batch *batch)
{
    struct http_stream *stream = batch->call->stream;
    if (!batch->is_paused && !batch->is_end && stream != NULL) {
        batch->is_paused = true;
        stream->ops->pause(stream);
    }
}

static void resume_input(struct batch *batch)
{
    struct http_stream *stream = batch->call->stream;
    if (batch->is_paused && stream != NULL) {
        batch->is_paused = false;
        stream->ops->resume(stream);
    }
}

static void begin_emit(struct batch *batch)
{
    struct call *call = batch->call;
    bool is_done = batch_is_done(batch);
    unsigned status = is_done ? 200 : 422;
    if (batch->request != NULL && batch->request->err == ERR_UNAVAILABLE) {
        status = 503;
        call->retry_after_sec = 1;
    }
    status = batch->lagging[0] != '\0' ? 504 : status;
    batch->done += is_done ? batch->line_count : 0;
    batch->failed += is_done ? 0 : batch->line_count;
    batch->state = BATCH_EMIT;
    if (!call->is_answered) {
        answer_begin(call, batch->is_many ? 200 : status, "application/x-ndjson");
    }
    loop_task_add(call->admin->loop, &batch->work);
}

static void on_everywhere(void *context, const char *lagging)
{
    struct call *call = context;
    struct batch *batch = call->state;
    call->fleet_wait = NULL;
    str_copy(batch->lagging, sizeof batch->lagging, str_from_c(lagging));
    begin_emit(batch);
    call_drop(call); // the hold of the wait
}

static void on_done(struct store_request *request)
{
    struct call *call = request->context;
    struct batch *batch = call->state;
    batch->request = request;
    if (request->err == 0) {
        call->revision = request->revision;
    }
    // One that lags already is not waited for again.
    if (request->err != 0 || batch->lagging[0] != '\0' || !call_wait_fleet(call, on_everywhere)) {
        begin_emit(batch);
    }
    call_drop(call);
}

static void submit_block(struct batch *batch)
{
    pause_input(batch);
    if (batch->failed_lines > 0 || batch->change_count == 0) {
        begin_emit(batch);
        return;
    }
    struct store_request *request = store_request_new(batch->change_count);
    if (request == NULL) {
        call_cut(batch->call);
        return;
    }
    memcpy(request->changes, batch->changes, batch->change_count * sizeof *batch->changes);
    batch->change_count = 0; // they belong to the request now
    request->wants_fleet = batch->call->wait == WAIT_FLEET;
    request->loop = batch->call->admin->loop;
    request->on_done = on_done;
    request->context = batch->call;
    batch->state = BATCH_STORE;
    call_hold(batch->call);
    store_submit(batch->call->admin->store, &request);
}

// Takes the next line that is there whole. False: more bytes are needed.
static bool next_line(struct batch *batch, struct str *line)
{
    struct str rest = str_from(buf_str(&batch->in), batch->in_at);
    size_t end = rest.len == 0 ? SIZE_MAX : str_find_char(rest, '\n');
    if (end != SIZE_MAX) {
        *line = str_sub(rest, 0, end);
        batch->in_at += end + 1;
        return true;
    }
    if (batch->is_end) {
        *line = rest;
        batch->in_at = batch->in.len;
        return rest.len > 0 || batch->is_skipping;
    }
    if (batch->is_skipping || rest.len > BATCH_LINE_MAX) {
        // Its bytes are dropped as they come; it is judged when it ends.
        batch->is_skipping = true;
        batch->in_at = batch->in.len;
    }
    return false;
}

static bool line_is_blank(struct str line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r') {
            return false;
        }
    }
    return true;
}

static void take_line(struct batch *batch, struct str line)
{
    if (batch->is_skipping || line.len > BATCH_LINE_MAX) {
        batch->is_skipping = false;
        batch_refuse_line(batch, ERR_BODY_TOO_LARGE, "the line is longer than 1048576 bytes");
        return;
    }
    batch_take_line(batch, line);
}

// The next line that says something; a full block is closed by it first (it stays in the input).
// Returns whether reading goes on.
static bool read_step(struct batch *batch)
{
    size_t before = batch->in_at;
    struct str line;
    if (!next_line(batch, &line)) {
        if (batch->is_end) {
            submit_block(batch);
        } else {
            resume_input(batch);
        }
        return false;
    }
    bool is_blank = line_is_blank(line) && !batch->is_skipping;
    if (!is_blank && batch->line_count == BATCH_BLOCK_LINES) {
        batch->in_at = before;
        batch->is_many = true;
        submit_block(batch);
        return false;
    }
    batch->line_number++;
    if (!is_blank) {
        take_line(batch, line);
    }
    return batch->call->stream != NULL;
}

// The last chunk if it has room, else a new one; NULL: out of memory.
static struct batch_chunk *open_chunk(struct batch *batch)
{
    struct batch_chunk *chunk = CONTAINER_OF(batch->chunks.prev, struct batch_chunk, node);
    if (!list_is_empty(&batch->chunks) && chunk->text.len < BATCH_CHUNK_LEN) {
        return chunk;
    }
    chunk = calloc(1, sizeof *chunk);
    if (chunk != NULL) {
        buf_init(&chunk->text, 0);
        list_append(&batch->chunks, &chunk->node);
    }
    return chunk;
}

static void write_sum(const struct batch *batch, struct buf *out)
{
    if (!batch->is_many && batch->lagging[0] == '\0') {
        return;
    }
    buf_printf(out, "{\"done\":%llu,\"failed\":%llu", (unsigned long long)batch->done,
               (unsigned long long)batch->failed);
    if (batch->lagging[0] != '\0') {
        buf_put(out, STR(",\"lagging\":"));
        buf_put_json(out, str_from_c(batch->lagging));
    }
    buf_put(out, STR("}\n"));
}

// Writes the answers of some more lines. Returns whether there is more to do now.
static bool emit_step(struct batch *batch)
{
    struct admin *admin = batch->call->admin;
    if (admin->batch_spooled >= BATCH_SPOOL_MAX && !list_is_empty(&batch->chunks)) {
        return false; // the client's reading comes back
    }
    struct batch_chunk *chunk = open_chunk(batch);
    if (chunk == NULL) {
        call_cut(batch->call);
        return false;
    }
    size_t before = chunk->text.len;
    while (batch->emitted < batch->line_count && chunk->text.len < BATCH_CHUNK_LEN) {
        batch_put_answer(batch, batch->emitted++, &chunk->text);
    }
    if (batch->emitted == batch->line_count) {
        batch_clear_block(batch);
        bool has_more = !batch->is_end || batch->in_at < batch->in.len;
        batch->state = has_more ? BATCH_READ : BATCH_DONE;
        if (!has_more) {
            write_sum(batch, &chunk->text);
        }
    }
    admin->batch_spooled += chunk->text.len - before;
    if (chunk->text.failed) {
        call_cut(batch->call);
        return false;
    }
    call_kick(batch->call);
    return batch->state != BATCH_DONE;
}

static bool work_step(struct batch *batch)
{
    switch (batch->state) {
    case BATCH_READ:
        return read_step(batch);
    case BATCH_EMIT:
        return emit_step(batch);
    case BATCH_STORE:
    case BATCH_DONE:
        break;
    }
    return false;
}

static void on_work(struct loop *loop, struct loop_task *task)
{
    struct batch *batch = CONTAINER_OF(task, struct batch, work);
    struct call *call = batch->call;
    uint64_t deadline_ns = clock_monotonic_ns() + ADMIN_SLICE_NS;
    // The call may end inside (out of memory): it stays until this has returned.
    call_hold(call);
    while (work_step(batch)) {
        if (clock_monotonic_ns() >= deadline_ns) {
            loop_task_add(loop, task);
            break;
        }
    }
    buf_consume(&batch->in, batch->in_at);
    batch->in_at = 0;
    call_drop(call);
}

static enum flow step_answers(struct call *call, struct buf *out)
{
    struct batch *batch = call->state;
    if (!list_is_empty(&batch->chunks)) {
        struct batch_chunk *chunk = LIST_FIRST(&batch->chunks, struct batch_chunk, node);
        buf_put(out, buf_str(&chunk->text));
        free_chunk(batch, chunk);
        if (batch->state == BATCH_EMIT) {
            loop_task_add(call->admin->loop, &batch->work);
        }
    }
    if (!list_is_empty(&batch->chunks)) {
        return FLOW_MORE;
    }
    return batch->state == BATCH_DONE ? FLOW_END : FLOW_WAIT;
}

static void on_data(struct call *call, struct str data)
{
    struct batch *batch = call->state;
    buf_put(&batch->in, data);
    if (batch->in.failed) {
        call_cut(call);
        return;
    }
    if (batch->in.len - batch->in_at > BATCH_LINE_MAX) {
        pause_input(batch);
    }
    if (batch->state == BATCH_READ) {
        loop_task_add(call->admin->loop, &batch->work);
    }
}

static void on_end(struct call *call)
{
    struct batch *batch = call->state;
    batch->is_end = true;
    if (batch->state == BATCH_READ) {
        loop_task_add(call->admin->loop, &batch->work);
    }
}

static const struct call_ops batch_ops = {
    .on_data = on_data,
    .on_end = on_end,
    .step = step_answers,
    .free_state = free_batch,
};

void call_batch(struct call *call)
{
    struct admin *admin = call->admin;
    if (!object_wait(call)) {
        return;
    }
    if (admin->batch_count >= ADMIN_BATCH_MAX) {
        answer_status(call, 503, "%u batches are under way already", ADMIN_BATCH_MAX);
        return;
    }
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        answer_err(call, ERR_MEMORY);
        return;
    }
    batch->call = call;
    batch->is_end = call->is_body_done;
    loop_task_init(&batch->work, on_work);
    list_init(&batch->chunks);
    buf_init(&batch->in, 0);
    admin->batch_count++;
    call->state = batch;
    call->ops = &batch_ops;
    if (batch->is_end) {
        loop_task_add(admin->loop, &batch->work);
    }
}
