// SPDX-License-Identifier: MIT
#include "support/redis_server.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENT_MAX = 48, START_SEC = 60, ANSWER_SEC = 30 };

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "redis_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool is_free(uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof in) == 0;
    close(fd);
    return is_free;
}

// Below the ports that the kernel gives to connections: those may be taken while a server is restarted.
uint16_t redis_server_free_port(void)
{
    for (unsigned i = 0; i < 1000; i++) {
        uint16_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random) {
            give_up("random");
        }
        uint16_t port = (uint16_t)(12000 + random % 20000);
        if (is_free(port)) {
            return port;
        }
    }
    give_up("port");
}

void redis_server_init(struct redis_server *server)
{
    *server = (struct redis_server){.port = redis_server_free_port()};
    snprintf(server->folder, sizeof server->folder, "/tmp/pointsman-redis-XXXXXX");
    if (mkdtemp(server->folder) == NULL) {
        give_up("folder");
    }
    snprintf(server->socket, sizeof server->socket, "%s/redis.sock", server->folder);
}

static void run(const struct redis_server *server, char *const *arguments)
{
    char log[96];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(log, sizeof log, "%s/log", server->folder);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp(arguments[0], arguments);
    _exit(127);
}

static int dial(const struct redis_server *server)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(server->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool is_unix = access(server->socket, F_OK) == 0; // a Sentinel has none
    struct timeval most = {.tv_sec = ANSWER_SEC};
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(un.sun_path, server->socket, sizeof server->socket);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    int failed = is_unix ? connect(fd, (struct sockaddr *)&un, sizeof un)
                         : connect(fd, (struct sockaddr *)&in, sizeof in);
    if (failed) {
        close(fd);
        return -1;
    }
    return fd;
}

// How much of it answers the line, and not the QUIT behind it; SIZE_MAX: there is more to come.
static size_t answer_len(const char *answer, size_t len, bool is_over)
{
    static const char ok[] = "+OK\r\n";
    const char *unknown = strstr(answer, "-ERR unknown command 'QUIT'"); // by a Sentinel
    if (unknown != NULL && answer[len - 1] == '\n') {
        return (size_t)(unknown - answer);
    }
    if (!is_over) {
        return SIZE_MAX;
    }
    size_t ok_len = strlen(ok);
    bool is_ok = len >= ok_len && memcmp(answer + len - ok_len, ok, ok_len) == 0;
    return is_ok ? len - ok_len : len;
}

static bool say(const struct redis_server *server, const char *line, char *answer, size_t size)
{
    static const char quit[] = "\r\nQUIT\r\n";
    int fd = dial(server);
    answer[0] = 0;
    if (fd < 0) {
        return false;
    }
    size_t len = 0;
    size_t end = SIZE_MAX;
    ssize_t n = send(fd, line, strlen(line), MSG_NOSIGNAL);
    n = n > 0 ? send(fd, quit, strlen(quit), MSG_NOSIGNAL) : 0;
    while (end == SIZE_MAX) {
        do { // with a timeout set, a process that is stopped and goes on is interrupted (signal(7))
            n = n != 0 && len < size - 1 ? recv(fd, answer + len, size - 1 - len, 0) : 0;
        } while (n < 0 && errno == EINTR);
        len += n > 0 ? (size_t)n : 0;
        answer[len] = 0;
        end = answer_len(answer, len, n <= 0);
    }
    close(fd);
    answer[end] = 0;
    return end > 0;
}

void redis_server_say(const struct redis_server *server, const char *line, char *answer,
                      size_t size)
{
    (void)say(server, line, answer, size);
}

static void launch(struct redis_server *server, char *const *arguments)
{
    unlink(server->socket);
    pid_t pid = fork();
    if (pid < 0) {
        give_up("fork");
    }
    if (pid == 0) {
        run(server, arguments);
    }
    server->pid = pid;
    char answer[256];
    time_t until = time(NULL) + START_SEC;
    while (time(NULL) < until) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            errno = 0;
            give_up("redis-server does not start: is it installed (script/bootstrap --test)?");
        }
        // "+PONG", "-NOAUTH …": it answers. "-LOADING" it will soon.
        if (say(server, "PING", answer, sizeof answer) && strstr(answer, "LOADING") == NULL) {
            return;
        }
        usleep(10000);
    }
    give_up("no answer of redis-server");
}

void redis_server_start(struct redis_server *server, const char *const *arguments)
{
    char port[16];
    char *all[ARGUMENT_MAX] = {
        "redis-server", "--port", port,       "--unixsocket", server->socket, "--dir",
        server->folder, "--save", "",         "--appendonly", "no",           "--daemonize",
        "no",           "--bind", "127.0.0.1"};
    unsigned count = 15;
    snprintf(port, sizeof port, "%u", server->port);
    for (; arguments != NULL && *arguments != NULL && count < ARGUMENT_MAX - 1; arguments++) {
        all[count++] = (char *)(uintptr_t)*arguments;
    }
    launch(server, all);
}

void redis_server_start_sentinel(struct redis_server *server, const char *configuration)
{
    char path[96];
    snprintf(path, sizeof path, "%s/sentinel.conf", server->folder);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        give_up(path);
    }
    fprintf(file, "port %u\nbind 127.0.0.1\ndir %s\n%s", server->port, server->folder,
            configuration);
    fclose(file);
    char *all[] = {"redis-sentinel", path, NULL};
    launch(server, all);
}

void redis_server_signal(const struct redis_server *server, int number)
{
    kill(server->pid, number);
    if (number == SIGSTOP) {
        int status = 0;
        (void)waitpid(server->pid, &status, WUNTRACED); // until then it answers
    }
}

void redis_server_kill(struct redis_server *server)
{
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
}

void redis_server_fini(struct redis_server *server)
{
    redis_server_kill(server);
    DIR *folder = opendir(server->folder);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        (void)unlinkat(dirfd(folder), entry->d_name, 0);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    rmdir(server->folder);
}
