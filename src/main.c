// SPDX-License-Identifier: MIT
// pointsman: a dynamic, multi-tenant reverse proxy, traffic router and load balancer.
#include "cli/cli.h"
#include "cli/options.h"
#include "serve/serve.h"

static int serve(int argc, char **argv)
{
    struct config config;
    struct serve_options options;
    struct problems problems;
    problems_init(&problems);
    int err = cli_parse_serve(argc - 1, argv + 1, &config, &options, &problems);
    int status = err == 0 ? CLI_DONE : cli_exit_status(err);
    cli_print_problems(&problems);
    problems_fini(&problems);
    if (err == 0) {
        struct serve_request request = {.config = &config, .demo = options.demo};
        status = serve_run(&request);
    }
    config_fini(&config);
    return status;
}

int main(int argc, char **argv)
{
    if (argc > 1 && str_eq(str_from_c(argv[1]), STR("serve"))) {
        return serve(argc, argv);
    }
    return cli_run(argc, argv);
}
