// SPDX-License-Identifier: MIT
// Start, signals, drain:
//
//   store open (lock) ─► tables loaded ─► listeners ─► threads ─► ready … SIGTERM ─► drain ─► stop
#include "serve/serve.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "files/files.h"
#include "loop/rcu.h"
#include "net/address.h"
#include "net/outq.h"
#include "serve/demo.h"
#include "serve/security.h"
#include "serve/membership.h"
#include "serve/system.h"
#include "serve/workers.h"
#include "upstream/prober.h"
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    DRAIN_LOOK_MS = 20, // how often is looked whether all connections have ended
    NAME_MAX_LEN = 300,
};

struct node {
    struct config *config;
    struct loop control;
    struct store *store;
    struct files *files;           // NULL: the store is no folder
    struct membership *membership; // NULL: the store is no Redis
    struct store_line line;
    struct security *security;
    struct publisher *publisher;
    struct prober *prober;
    struct access_log *access_log;
    struct workers *workers;
    struct admin *admin;
    struct demo *demo;
    struct proxy_shared shared;
    struct loop_io signals;
    struct loop_timer drain_timer;
    uint64_t started_ms;
    uint64_t drain_deadline_ms;
    char *token;
    char name[NAME_MAX_LEN];
    bool has_control;
    bool has_outq;
    bool has_tls; // the control loop has its wire buffers
    bool is_ready;
    atomic_bool is_draining; // the fleet's thread reads it
};

// ---- the admin API's hooks, the store's feed ----

static void fill_status(void *context, struct admin_status *status)
{
    struct node *node = context;
    status->uptime_ms = node->control.now_ms - node->started_ms;
    struct fleet *fleet = membership_fleet(node->membership);
    status->is_draining = node->is_draining;
    status->is_ready = node->is_ready && !node->is_draining &&
                       (node->files == NULL || files_is_ready(node->files)) &&
                       (fleet == NULL || fleet_is_ready(fleet));
    status->node_name = str_from_c(node->name);
    status->node_zone = str_from_c(node->config->node.zone);
    workers_status(node->workers, status);
}

static void cut(void *context)
{
    workers_cut(((struct node *)context)->workers);
}

static const struct admin_hooks hooks = {fill_status, cut};

static bool on_change(void *context, uint64_t revision, const struct store_record *records,
                      unsigned count)
{
    return publisher_begin(((struct node *)context)->publisher, revision, records, count);
}

static void on_live(void *context)
{
    store_line_resume(&((struct node *)context)->line);
}

static void on_store_state(void *context, bool is_writable, struct str detail)
{
    struct node *node = context;
    if (is_writable) {
        log_info("the store can write again");
    } else {
        log_error("the store cannot write: %.*s", STR_ARG(detail));
    }
    if (node->admin != NULL) {
        admin_store_changed(node->admin, is_writable, detail);
    }
}

// Of the replica: what is written into Redis waits until it can be held here.
static void on_replica_state(void *context, bool is_writable, struct str detail)
{
    char text[300];
    snprintf(text, sizeof text, "the local replica cannot be written: %.*s", STR_ARG(detail));
    on_store_state(context, is_writable, is_writable ? detail : str_from_c(text));
}

static void on_fleet_state(void *context, bool is_writable, const char *detail)
{
    on_store_state(context, is_writable, str_from_c(detail));
}

static void on_fleet_event(void *context, const struct fleet_event *event)
{
    struct node *node = context;
    if (node->admin != NULL) {
        admin_fleet_event(node->admin, event);
    }
}

// The fleet's thread, and control.
static void fill_load(void *context, struct fleet_load *load)
{
    struct node *node = context;
    load->is_draining = atomic_load_explicit(&node->is_draining, memory_order_relaxed);
    load->workers = stats_worker_count();
    load->requests = stats_counter_sum(COUNTER_requests_total);
    for (unsigned i = 0; i < load->workers; i++) {
        load->connections +=
            atomic_load_explicit(&stats_of_worker(i)->connections, memory_order_relaxed);
    }
}

static void on_files_report(void *context)
{
    struct node *node = context;
    if (node->admin != NULL) {
        admin_files_changed(node->admin);
    }
}

// ---- signals, drain ----

static void end_now(struct node *node)
{
    loop_stop(&node->control);
}

static void on_drain_look(struct loop *loop, struct loop_timer *timer)
{
    struct node *node = CONTAINER_OF(timer, struct node, drain_timer);
    unsigned open = atomic_load_explicit(&node->shared.connections, memory_order_relaxed);
    if (open == 0 || loop->now_ms >= node->drain_deadline_ms) {
        if (open > 0) {
            log_warning("%u connections ended by the end of timeouts.drain", open);
        }
        end_now(node);
        return;
    }
    loop_timer_set(loop, timer, DRAIN_LOOK_MS);
}

static void begin_drain(struct node *node, int signal_number)
{
    if (node->is_draining) {
        log_info("a second %s: stopping now", strsignal(signal_number));
        end_now(node);
        return;
    }
    log_info("%s: draining for at most %u ms", strsignal(signal_number),
             node->config->timeouts.drain_ms);
    node->is_draining = true;
    admin_node_changed(node->admin, "draining");
    workers_drain(node->workers, node->config->timeouts.drain_ms);
    // The workers end what is left themselves, a moment before we stop waiting.
    node->drain_deadline_ms = node->control.now_ms + node->config->timeouts.drain_ms + 500;
    loop_timer_set(&node->control, &node->drain_timer, DRAIN_LOOK_MS);
}

static void on_signal(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    (void)events;
    struct node *node = CONTAINER_OF(io, struct node, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGHUP:
            log_info("log files are opened anew");
            if (node->access_log != NULL) {
                access_log_reopen(node->access_log);
            }
            break;
        case SIGUSR2:
            log_warning("an upgrade in place is not possible yet; SIGUSR2 is ignored");
            break;
        default:
            begin_drain(node, (int)info.ssi_signo);
        }
    }
}

static int watch_signals(struct node *node)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR2);
    // Blocked before any thread starts: all of them inherit it.
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) {
        return ERR_SYSTEM;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file at `ulimit -f` is an error of that write
    node->signals = (struct loop_io){.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC),
                                     .on_event = on_signal};
    return node->signals.fd < 0 ? ERR_SYSTEM : 0;
}

// ---- start, in order ----

static int start_control(struct node *node, struct problems *problems)
{
    int err = loop_init(&node->control);
    if (err == 0) {
        node->has_control = true;
        err = outq_pool_init(&node->control);
    }
    if (err == 0) {
        node->has_outq = true;
        err = tls_loop_init(&node->control);
    }
    if (err == 0) {
        node->has_tls = true;
        err = loop_add_events(&node->control, &node->signals, EPOLLIN);
    }
    store_line_init(&node->line, &node->control);
    loop_timer_init(&node->drain_timer, on_drain_look);
    node->started_ms = node->control.now_ms;
    return err == 0 ? 0 : problems_add(problems, err, "", "%s", err_text(err));
}

// What is known of targets besides what is declared: checks, names, the zone of this node.
// The API that believes who is on this machine; with require_token it believes nobody.
static void read_admin_address(const struct config *config, struct sockaddr_storage *address)
{
    socklen_t len;
    if (config->admin.require_token ||
        net_parse_listen(str_from_c(config->admin.address), address, &len) != 0) {
        address->ss_family = AF_UNSPEC;
    }
}

static int configure_targets(struct node *node)
{
    int err = prober_new(&node->prober, node->config->limits.health_checks);
    struct publish_config config = {
        .zone = str_from_c(node->config->node.zone),
        .config = node->config,
        .prober = node->prober,
        .origin_tls = security_origin_tls(node->security),
    };
    if (err == 0) {
        read_admin_address(node->config, &node->shared.admin_address);
        prober_forbid(node->prober, &node->shared.admin_address);
    }
    return err == 0 ? publisher_configure(node->publisher, &config) : err;
}

// The file that is written: the store itself, or the replica of one that is elsewhere.
static int open_store(struct node *node, struct problems *problems)
{
    const struct config *config = node->config;
    int membership_err = membership_open(&node->membership, config, &node->store, problems);
    if (membership_err != 0 || node->membership != NULL) {
        return membership_err;
    }
    if (config_store_folder(config) == NULL) {
        return store_open(&node->store, str_from_c(config->store.url), problems);
    }
    struct buf url;
    buf_init(&url, 0);
    buf_printf(&url, "sqlite:%s", config->store.local);
    int err = url.failed ? problems_add(problems, ERR_MEMORY, "store.local", "out of memory")
                         : store_open(&node->store, buf_str(&url), problems);
    buf_fini(&url);
    return err;
}

static int open_files(struct node *node, struct problems *problems)
{
    const struct files_config config = {
        .folder = config_store_folder(node->config),
        .accept_empty = node->config->store.accept_empty,
        .store = node->store,
        .seal = security_seal(node->security),
        .on_report = on_files_report,
        .context = node,
    };
    return config.folder == NULL ? 0 : files_new(&node->files, &config, problems);
}

static int load(struct node *node, struct problems *problems)
{
    int err = open_store(node, problems);
    if (err == 0) {
        err = security_new(&node->security, node->config, node->store, problems);
    }
    if (err != 0) {
        return err;
    }
    uint64_t before = clock_monotonic_ns();
    err = publisher_new(&node->publisher, security_certs(node->security),
                        security_tickets(node->security), security_seal(node->security));
    if (err == 0) {
        err = configure_targets(node);
    }
    if (err == 0) {
        rcu_thread_begin();
        err = publisher_load(node->publisher, node->store);
        rcu_thread_end();
    }
    if (err != 0) {
        return problems_add(problems, err, "store.url", "cannot load what is declared: %s",
                            err_text(err));
    }
    log_info("%llu routes, %llu pools and %llu certificates loaded in %llu ms, revision %llu",
             (unsigned long long)publisher_route_count(node->publisher),
             (unsigned long long)publisher_pool_count(node->publisher),
             (unsigned long long)publisher_certificate_count(node->publisher),
             (unsigned long long)((clock_monotonic_ns() - before) / NS_PER_MS),
             (unsigned long long)publisher_revision(node->publisher));
    return open_files(node, problems);
}

static int join_fleet(struct node *node, struct problems *problems)
{
    const struct membership_hooks fleet = {
        .node_name = node->name,
        .seal = security_seal(node->security),
        .load = fill_load,
        .on_state = on_fleet_state,
        .on_event = on_fleet_event,
        .context = node,
    };
    return membership_join(node->membership, &fleet, problems);
}

static int start_workers(struct node *node, struct problems *problems)
{
    struct config *config = node->config;
    unsigned count = config->workers != 0 ? config->workers : system_worker_count();
    count = count > STATS_WORKER_MAX ? STATS_WORKER_MAX : count;
    stats_set_worker_count(count);
    unsigned limit = system_connection_limit(config->limits.connections);
    if (limit != config->limits.connections) {
        if (config->limits.connections != 0) {
            log_warning("limits.connections is %u, but the limit of open files allows for %u "
                        "(ulimit -n, LimitNOFILE=)",
                        config->limits.connections, limit);
        }
        config->limits.connections = limit;
    }
    if (config->access_log.file[0] != '\0') {
        int err = access_log_open(&node->access_log, config->access_log.file,
                                  config->access_log.format, count, problems);
        if (err != 0) {
            return err;
        }
    }
    node->shared.config = config;
    node->shared.routes = publisher_routes(node->publisher);
    node->shared.certs = security_certs(node->security);
    node->shared.tickets = security_tickets(node->security);
    node->shared.origin_tls = security_origin_tls(node->security);
    node->shared.access_log = node->access_log;
    node->shared.misses = membership_misses(node->membership);
    node->shared.worker_count = count;
    return workers_new(&node->workers, &node->shared, problems);
}

// Ceryx' API on an address of its own.
static int listen_ceryx(struct node *node, struct problems *problems)
{
    const char *text = node->config->ceryx.api_address;
    if (!node->config->ceryx.enabled || text[0] == '\0') {
        return 0;
    }
    struct sockaddr_storage address;
    socklen_t len;
    int fd;
    if (net_parse_listen(str_from_c(text), &address, &len) != 0) {
        return problems_add(problems, ERR_INVALID, "ceryx.api_address", "is not an address");
    }
    int err = net_listen(&address, len, 1, &fd);
    if (err == 0) {
        err = admin_listen_ceryx(node->admin, fd);
    }
    if (err != 0) {
        return problems_add(problems, err, "ceryx.api_address", "%s: %s", text,
                            err == ERR_IN_USE ? "another process listens on this address"
                                              : strerror(errno));
    }
    log_info("Ceryx API on %s", text);
    return 0;
}

static int start_admin(struct node *node, struct problems *problems)
{
    const struct config *config = node->config;
    const char *address_text = config->admin.address;
    int err = 0;
    if (config->admin.token[0] == '\0') {
        err = admin_token_load(config->admin.token_file, &node->token, problems);
        if (err != 0) {
            return err;
        }
    }
    struct admin_deps deps = {
        .control = &node->control,
        .config = config,
        .store = node->store,
        .publisher = node->publisher,
        .files = node->files,
        .fleet = membership_fleet(node->membership),
        .ceryx = membership_ceryx(node->membership),
        .certs = security_certs(node->security),
        .seal = security_seal(node->security),
        .access_log = node->access_log,
        .token = node->token != NULL ? node->token : config->admin.token,
        .hooks = &hooks,
        .context = node,
    };
    err = admin_new(&node->admin, &deps);
    if (err != 0) {
        return problems_add(problems, err, "admin", "%s", err_text(err));
    }
    struct sockaddr_storage address;
    socklen_t len;
    int fd;
    if (net_parse_listen(str_from_c(address_text), &address, &len) != 0) {
        return problems_add(problems, ERR_INVALID, "admin.address", "is not an address");
    }
    err = net_listen(&address, len, 1, &fd);
    if (err != 0) {
        return problems_add(problems, err, "admin.address", "%s: %s", address_text,
                            err == ERR_IN_USE ? "another process listens on this address"
                                              : strerror(errno));
    }
    err = admin_listen(node->admin, fd);
    if (err != 0) {
        return problems_add(problems, err, "admin.address",
                            err == ERR_INVALID
                                ? "%s is reachable from other machines and needs a token"
                                : "cannot listen on %s",
                            address_text);
    }
    log_info("admin API on %s", address_text);
    return listen_ceryx(node, problems);
}

static int start_threads(struct node *node, bool demo, struct problems *problems)
{
    struct fleet *fleet = membership_fleet(node->membership);
    struct store_feed feed = {on_change, fleet == NULL ? on_store_state : on_replica_state, node,
                              &node->line};
    publisher_on_live(node->publisher, on_live, node);
    int err = prober_start(node->prober, &node->control);
    if (err == 0) {
        err = publisher_start(node->publisher, &node->control);
    }
    if (err == 0) {
        err = store_start(node->store, &node->control, &feed);
    }
    if (err == 0 && fleet != NULL) {
        err = fleet_start(fleet, &node->control);
    }
    if (err == 0) {
        err = security_start(node->security, &node->control);
    }
    if (err == 0 && node->files != NULL) {
        err = files_start(node->files, &node->control);
    }
    if (err == 0 && node->access_log != NULL) {
        err = access_log_start(node->access_log);
    }
    if (err == 0) {
        err = workers_start(node->workers);
    }
    if (err == 0 && demo) {
        err = demo_start(&node->demo, &node->control, node->store, node->config, problems);
    }
    return err == 0 || problems->count > 0 ? err
                                           : problems_add(problems, err, "", "%s", err_text(err));
}

static int start(struct node *node, bool demo, struct problems *problems)
{
    log_set_level(node->config->log.level);
    hash_seed();
    if (demo && config_store_folder(node->config) != NULL) {
        return problems_add(problems, ERR_INVALID, "--demo",
                            "writes declarations, but they come from the files of store.url");
    }
    if (demo && config_store_is_redis(node->config)) {
        return problems_add(
            problems, ERR_INVALID, "--demo",
            "declares targets of this process, but what is in store.url is served by other nodes "
            "too: leave store.url out");
    }
    if (watch_signals(node) != 0) {
        return problems_add(problems, ERR_SYSTEM, "", "cannot watch signals: %s", strerror(errno));
    }
    int err = start_control(node, problems);
    if (err == 0) {
        err = load(node, problems);
    }
    if (err != 0) {
        return err;
    }
    if (node->config->node.name[0] != '\0') {
        str_copy(node->name, sizeof node->name, str_from_c(node->config->node.name));
    } else {
        system_node_name(store_node_id(node->store), node->name, sizeof node->name);
    }
    err = join_fleet(node, problems);
    if (err == 0) {
        err = start_workers(node, problems);
    }
    if (err == 0) {
        err = start_admin(node, problems);
    }
    return err != 0 ? err : start_threads(node, demo, problems);
}

// In the order that nobody outlives what it uses.
static void stop(struct node *node)
{
    files_stop(node->files); // it waits for answers of this loop
    if (node->workers != NULL) {
        workers_stop(node->workers);
    }
    rcu_thread_begin(); // the loop, which was registered while it ran, has ended
    if (node->prober != NULL) {
        prober_stop(node->prober); // what it still had to say is in the mailbox
    }
    security_stop(node->security); // handshakes that wait are answered, in the mailboxes below
    if (node->publisher != NULL) {
        publisher_hurry(node->publisher);
    }
    membership_leave(node->membership);
    store_stop(node->store);
    if (node->has_outq) {
        // The store's last answers, and those to what they, or clients meanwhile, still submitted: each
        // round of messages may put answers into the line, which may submit once more.
        loop_turn(&node->control, 0);
        do {
            loop_empty_mailbox(&node->control);
            store_line_finish(&node->line);
        } while (loop_has_messages(&node->control));
    }
    demo_free(&node->demo);
    files_free(&node->files); // before the store, which its reader reads
    admin_free(&node->admin);
    membership_free(&node->membership);
    security_close_store(node->security);
    store_close(&node->store);
    if (node->publisher != NULL) {
        publisher_stop(node->publisher);
    }
    workers_free(&node->workers);
    publisher_free(&node->publisher);
    prober_free(&node->prober); // no probe is left, and no certificate comes any more
    security_free(&node->security);
    rcu_thread_end();
    access_log_close(&node->access_log);
    if (node->has_outq) {
        loop_close(&node->control, &node->signals);
        loop_run_deferred(&node->control);
        if (node->has_tls) {
            tls_loop_fini(&node->control);
        }
        outq_pool_fini(&node->control);
    }
    if (node->has_control) {
        loop_fini(&node->control);
    }
    free(node->token);
}

int serve_run(const struct serve_request *request)
{
    struct node *node = calloc(1, sizeof *node);
    struct problems problems;
    problems_init(&problems);
    if (node == NULL) {
        return 1;
    }
    node->config = request->config;
    int err = start(node, request->demo, &problems);
    for (unsigned i = 0; i < problems.count; i++) {
        log_error("%s%s%s", problems.items[i].pointer, problems.items[i].pointer[0] ? ": " : "",
                  problems.items[i].detail);
    }
    if (err == 0) {
        node->is_ready = true;
        log_info("pointsman " POINTSMAN_VERSION " is ready: node %s, %u workers", node->name,
                 node->shared.worker_count);
        admin_node_changed(node->admin, "ready");
        loop_run(&node->control);
        log_info("stopped");
    }
    stop(node);
    problems_fini(&problems);
    free(node);
    return err == 0 ? 0 : 1;
}
