// SPDX-License-Identifier: MIT
#include "serve/system.h"
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    OWN_DESCRIPTORS = 200, // files, listeners, stores
    NOFILE_MAX = 1 << 20,  // enough for half a million clients
};

// cgroup v2: "max 100000" or "150000 100000". 0: no quota.
static unsigned quota(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file == NULL) {
        return 0;
    }
    unsigned long long limit = 0;
    unsigned long long period = 0;
    int count = fscanf(file, "%llu %llu", &limit, &period);
    fclose(file);
    return count == 2 && period > 0 ? (unsigned)((limit + period - 1) / period) : 0;
}

unsigned system_worker_count(void)
{
    cpu_set_t set;
    unsigned count = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        count = (unsigned)CPU_COUNT(&set);
    }
    unsigned most = quota();
    if (most > 0 && most < count) {
        count = most;
    }
    return count > 0 ? count : 1;
}

unsigned system_connection_limit(unsigned wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return wanted;
    }
    rlim_t need = wanted == 0 ? NOFILE_MAX : 2 * (rlim_t)wanted + OWN_DESCRIPTORS;
    if (limit.rlim_cur < need) {
        struct rlimit raised = {need, limit.rlim_max < need ? need : limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) != 0) { // over the hard limit: for root only
            raised = (struct rlimit){limit.rlim_max < need ? limit.rlim_max : need, limit.rlim_max};
            if (setrlimit(RLIMIT_NOFILE, &raised) != 0) {
                raised = limit;
            }
        }
        limit = raised;
    }
    rlim_t room = limit.rlim_cur > 2 * OWN_DESCRIPTORS ? (limit.rlim_cur - OWN_DESCRIPTORS) / 4 * 3
                                                       : OWN_DESCRIPTORS / 2;
    return wanted == 0 || room < wanted ? (unsigned)room : wanted;
}

void system_node_name(struct str node_id, char *to, size_t size)
{
    char host[256];
    if (gethostname(host, sizeof host) != 0) {
        memcpy(host, "node", 5);
    }
    host[sizeof host - 1] = '\0';
    snprintf(to, size, "%s-%.*s", host, STR_ARG(str_sub(node_id, 0, 8)));
}
