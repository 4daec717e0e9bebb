// SPDX-License-Identifier: MIT
#include "cli/command.h"
#include <limits.h>

static const struct flag no_flags[] = {{0}};

static const struct flag help_flag = {"help", NULL, "print this help"};
static const struct flag json_flag = {"json", NULL, "print JSON"};
static const struct flag client_flags[] = {
    {"admin", "ADDR",
     "admin address of the server: HOST:PORT, https://HOST:PORT or unix:/PATH (POINTSMAN_ADMIN; "
     "default 127.0.0.1:8081)"},
    {"ca", "FILE", "https: trust the certificates in this PEM file instead of the system's"},
    {"insecure", NULL, "https: take any certificate of the server"},
    {"config", "FILE", "take admin address and token file from this configuration"},
};

static const struct flag wait_flags[] = {
    {"wait", "none|node|fleet",
     "return when all nodes serve it (fleet), this one does (node, the default), or answer at once "
     "with what was written (none)"},
    {"wait-timeout", "TIME", "with --wait fleet: fail when a node lags after this time (5s)"},
};

static const struct command commands[] = {
    {.name = "serve",
     .arguments = "",
     .summary = "carry traffic",
     .details =
         "Starts the proxy and stays in the foreground. SIGTERM and SIGINT end it gracefully, "
         "SIGHUP reopens the log files. Every setting has a path: --set a.b=VALUE on the "
         "command line, POINTSMAN_A_B in the environment, a key in the file; the command line "
         "wins over the environment, the environment over the file.",
     .example = "pointsman serve --http :80 --store sqlite:/var/lib/pointsman/pointsman.db\n",
     .flags = serve_flags},
    {.name = "check",
     .arguments = "",
     .summary = "validate a configuration",
     .details = "Reads what serve would read and prints each fault as file:line:column: message.",
     .example = "pointsman check --config /etc/pointsman.yaml\n",
     .flags = check_flags},
    {.name = "route list",
     .arguments = "",
     .summary = "list routes",
     .details = "",
     .example = "pointsman route list --host shop.example.com\n",
     .flags = route_list_flags,
     .kind = COMMAND_DATA,
     .run = run_route_list},
    {.name = "route get",
     .arguments = "HOST[/PATH]",
     .summary = "show a route",
     .details = "",
     .example = "pointsman route get shop.example.com/api\n",
     .flags = no_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_route_get},
    {.name = "route put",
     .arguments = "HOST[/PATH] [TARGET]...",
     .summary = "make or replace a route",
     .details = "A route leads to targets, a pool, several pools by weight, another URL or a fixed "
                "answer. It is live on every worker when the command returns.",
     .example = "pointsman route put shop.example.com 10.0.0.5:8080 10.0.0.6:8080\n"
                "pointsman route put shop.example.com/api --pool api --strip-path\n"
                "pointsman route put old.example.com --redirect https://www.example.com\n",
     .flags = route_put_flags,
     .kind = COMMAND_DATA,
     .has_wait = true,
     .argument_min = 1,
     .argument_max = UINT_MAX,
     .run = run_route_put},
    {.name = "route rm",
     .arguments = "HOST[/PATH]...",
     .summary = "delete routes",
     .details = "",
     .example = "pointsman route rm shop.example.com/api\n",
     .flags = no_flags,
     .kind = COMMAND_CLIENT,
     .has_wait = true,
     .argument_min = 1,
     .argument_max = UINT_MAX,
     .run = run_route_rm},
    {.name = "pool list",
     .arguments = "",
     .summary = "list pools",
     .details = "",
     .example = "pointsman pool list --json\n",
     .flags = pool_list_flags,
     .kind = COMMAND_DATA,
     .run = run_pool_list},
    {.name = "pool get",
     .arguments = "NAME",
     .summary = "show a pool, its targets, their health and requests",
     .details = "With --json the pool as it is declared.",
     .example = "pointsman pool get shop-web\n",
     .flags = no_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_pool_get},
    {.name = "pool put",
     .arguments = "NAME [TARGET[=WEIGHT]]...",
     .summary = "make or replace a pool",
     .details = "",
     .example = "pointsman pool put shop-web 10.0.0.5:8080=3 10.0.0.6:8080 --health /healthz\n"
                "pointsman pool put api api.internal:8080 --balance hash --hash header:x-tenant\n",
     .flags = pool_put_flags,
     .kind = COMMAND_DATA,
     .has_wait = true,
     .argument_min = 1,
     .argument_max = UINT_MAX,
     .run = run_pool_put},
    {.name = "pool rm",
     .arguments = "NAME...",
     .summary = "delete pools that no route uses",
     .details = "",
     .example = "pointsman pool rm shop-web\n",
     .flags = no_flags,
     .kind = COMMAND_CLIENT,
     .has_wait = true,
     .argument_min = 1,
     .argument_max = UINT_MAX,
     .run = run_pool_rm},
    {.name = "pool drain",
     .arguments = "NAME TARGET",
     .summary = "give a target no new requests",
     .details = "What runs on the target ends by itself. With --wait the command returns when it "
                "is empty. With --remove-after the target is deleted when it is empty, or at the "
                "latest after that time.",
     .example = "pointsman pool drain shop-web 10.0.0.5:8080 --wait 30s\n"
                "pointsman pool drain shop-web 10.0.0.5:8080 --remove-after 30s\n",
     .flags = pool_drain_flags,
     .kind = COMMAND_CLIENT,
     .argument_min = 2,
     .argument_max = 2,
     .run = run_pool_drain},
    {.name = "pool up",
     .arguments = "NAME TARGET",
     .summary = "give a target requests again",
     .details = "",
     .example = "pointsman pool up shop-web 10.0.0.5:8080\n",
     .flags = no_flags,
     .kind = COMMAND_CLIENT,
     .argument_min = 2,
     .argument_max = 2,
     .run = run_pool_up},
    {.name = "pool switch",
     .arguments = "NAME --to TARGET[=WEIGHT][,TARGET...]",
     .summary = "replace all targets of a pool when the new ones are healthy",
     .details = "The new targets are tried by the pool's health check, without one by a TCP "
                "connect. When all are good they replace the old ones, which finish what they have "
                "under way. Else nothing changes, and what was wrong with each is printed.",
     .example = "pointsman pool switch shop-web --to 10.0.1.5:8080,10.0.1.6:8080 --wait-healthy "
                "30s\n",
     .flags = pool_switch_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_pool_switch},
    {.name = "cert list",
     .arguments = "",
     .summary = "list certificates",
     .details = "",
     .example = "pointsman cert list\n",
     .flags = cert_list_flags,
     .kind = COMMAND_DATA,
     .run = run_cert_list},
    {.name = "cert get",
     .arguments = "NAME",
     .summary = "show what a certificate says",
     .details = "Names, dates, issuer, fingerprint; never the key.",
     .example = "pointsman cert get shop\n",
     .flags = no_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_cert_get},
    {.name = "cert put",
     .arguments = "NAME --chain FILE --key FILE",
     .summary = "make or replace a certificate",
     .details =
         "Every worker uses it for the next handshake when the command returns. With --watch the "
         "files are not sent: the server reads them, and again whenever they change.",
     .example = "pointsman cert put shop --chain fullchain.pem --key privkey.pem\n"
                "pointsman cert put shop --watch --chain /etc/letsencrypt/live/shop/fullchain.pem "
                "--key /etc/letsencrypt/live/shop/privkey.pem\n",
     .flags = cert_put_flags,
     .kind = COMMAND_DATA,
     .has_wait = true,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_cert_put},
    {.name = "cert rm",
     .arguments = "NAME...",
     .summary = "delete certificates that no pool uses",
     .details = "",
     .example = "pointsman cert rm shop\n",
     .flags = no_flags,
     .kind = COMMAND_CLIENT,
     .has_wait = true,
     .argument_min = 1,
     .argument_max = UINT_MAX,
     .run = run_cert_rm},
    {.name = "apply",
     .arguments = "FILE...",
     .summary = "write many declarations at once",
     .details =
         "A file (- is standard input) holds YAML documents, JSON objects or NDJSON. Each is "
         "{kind: route, host: ...}, {kind: pool, name: ...} or {kind: certificate, name: ...} "
         "with the fields of that kind, or {routes: [...], pools: [...], certificates: [...]}, "
         "or a line of export. All go as one change: up to 10,000 declarations are written "
         "together or not at all.",
     .example = "pointsman apply routes.yaml\n"
                "pointsman export --secrets | pointsman apply --admin https://other-host:8081 -\n",
     .flags = apply_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = UINT_MAX,
     .run = run_apply},
    {.name = "export",
     .arguments = "",
     .summary = "print all declarations",
     .details =
         "One JSON object a line, as apply and POST /v1/batch take it. A certificate that was "
         "uploaded can be applied only if it was exported with --secrets.",
     .example = "pointsman export --yaml >routes.yaml\n",
     .flags = export_flags,
     .kind = COMMAND_CLIENT,
     .run = run_export},
    {.name = "status",
     .arguments = "",
     .summary = "show how the server does",
     .details = "",
     .example = "pointsman status --json\n",
     .flags = no_flags,
     .kind = COMMAND_DATA,
     .run = run_status},
    {.name = "nodes",
     .arguments = "",
     .summary = "list the nodes that share the store",
     .details = "A node is away when Redis has had no heartbeat of it for 5 seconds.",
     .example = "pointsman nodes\n",
     .flags = no_flags,
     .kind = COMMAND_DATA,
     .run = run_nodes},
    {.name = "store copy",
     .arguments = "FROM TO",
     .summary = "copy all declarations from one store into another",
     .details =
         "FROM and TO are sqlite:FILE, file:FOLDER or a Redis, as in store.url (redis:, rediss:, "
         "redis+sentinel:, redis+unix:). No node may run on a file of sqlite:, unless it is FROM "
         "and "
         "the node's replica: the error names its process. TO must be empty, but for --merge and "
         "--replace; all of it is written, or nothing (into a Redis that has declarations: 1,000 "
         "at "
         "a time, and nodes follow at once). In a folder each kind has a file, and routes one for "
         "each 10,000. Secrets in Redis are sealed with --encryption-key-file. Session ticket keys "
         "stay where they are.",
     .example = "pointsman store copy sqlite:pointsman.db file:routes.d/\n"
                "pointsman store copy --replace --secrets file:routes.d/ sqlite:pointsman.db\n"
                "pointsman store copy sqlite:pointsman.db redis://10.0.0.7/0\n",
     .flags = store_copy_flags,
     .argument_min = 2,
     .argument_max = 2,
     .run = run_store_copy},
    {.name = "import hipache",
     .arguments = "URL",
     .summary = "take over the frontends of Hipache from its Redis",
     .details = "URL is redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or one of rediss://, "
                "redis+unix:// and redis+sentinel://. Lists frontend:HOST become routes; what is "
                "there of their names is replaced, the rest stays. What was not understood is "
                "told, each with its key and the reason.",
     .example = "pointsman import hipache --dry-run redis://10.0.0.7:6379/0\n"
                "pointsman import hipache redis://10.0.0.7:6379/0\n",
     .flags = import_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_import_hipache},
    {.name = "import auto-ssl",
     .arguments = "URL",
     .summary = "take over the certificates of lua-resty-auto-ssl from its Redis",
     .details = "Keys DOMAIN:latest become certificates of that name, for that host. Expired ones "
                "are left out. With --dry-run the private keys are printed as well.",
     .example = "pointsman import auto-ssl --prefix my-prefix redis://10.0.0.7:6379/0\n",
     .flags = import_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_import_auto_ssl},
    {.name = "import traefik",
     .arguments = "URL",
     .summary = "take over routers, services and certificates of Traefik from its Redis",
     .details =
         "Routers whose rules are made of Host and PathPrefix become routes, services pools, "
         "tls/certificates certificates. A router with something that decides who is served, "
         "and cannot be said here, is left out and told.",
     .example = "pointsman import traefik --dry-run redis://10.0.0.7:6379/0 >routes.ndjson\n",
     .flags = import_traefik_flags,
     .kind = COMMAND_DATA,
     .argument_min = 1,
     .argument_max = 1,
     .run = run_import_traefik},
    {.name = "version",
     .arguments = "",
     .summary = "print the version",
     .details = "",
     .example = "pointsman version\n",
     .flags = version_flags,
     .run = run_version},
    {.name = "help",
     .arguments = "[COMMAND]...",
     .summary = "explain a command",
     .details = "",
     .example = "pointsman help route put\n",
     .flags = help_flags,
     .argument_max = 2,
     .run = run_help},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

const struct command *command_at(unsigned index)
{
    return index < COMMAND_COUNT ? &commands[index] : NULL;
}

static bool is_named(const struct command *command, const char *first, const char *second)
{
    struct str group;
    struct str verb;
    bool has_verb = str_split(str_from_c(command->name), ' ', &group, &verb);
    if (!str_eq(group, str_from_c(first))) {
        return false;
    }
    return !has_verb || (second != NULL && str_eq(verb, str_from_c(second)));
}

const struct command *command_find(const char *first, const char *second, unsigned *words)
{
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        if (is_named(&commands[i], first, second)) {
            *words = strchr(commands[i].name, ' ') != NULL ? 2 : 1;
            return &commands[i];
        }
    }
    return NULL;
}

bool command_is_group(const char *first)
{
    struct str name = str_from_c(first);
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        struct str group;
        struct str verb;
        if (str_split(str_from_c(commands[i].name), ' ', &group, &verb) && str_eq(group, name)) {
            return true;
        }
    }
    return false;
}

const struct flag *command_flag(const struct command *command, unsigned index)
{
    unsigned own = 0;
    while (command->flags[own].name != NULL) {
        if (own == index) {
            return &command->flags[own];
        }
        own++;
    }
    index -= own;
    enum { WAIT_COUNT = sizeof wait_flags / sizeof wait_flags[0] };
    if (command->has_wait && index < WAIT_COUNT) {
        return &wait_flags[index];
    }
    index -= command->has_wait ? WAIT_COUNT : 0;
    enum { CLIENT_COUNT = sizeof client_flags / sizeof client_flags[0] };
    if (command->kind == COMMAND_DATA && index-- == 0) {
        return &json_flag;
    }
    if (command->kind != COMMAND_PLAIN) {
        if (index < CLIENT_COUNT) {
            return &client_flags[index];
        }
        index -= CLIENT_COUNT;
    }
    return index == 0 ? &help_flag : NULL;
}
