# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of pointsman for bash. Made by: pointsman help --bash
_pointsman() {
  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="serve check route pool cert apply export status nodes store import version help"
  elif [ "$COMP_CWORD" -eq 2 ]; then
    case $command in
    route) words="list get put rm" ;;
    pool) words="list get put rm drain up switch" ;;
    cert) words="list get put rm" ;;
    store) words="copy" ;;
    import) words="hipache auto-ssl traefik" ;;
    esac
  fi
  if [ -z "$words" ] && [[ $current == -* ]]; then
    case $command in
    route | pool | cert | store | import) command="$command ${COMP_WORDS[2]}" ;;
    esac
    case $command in
    "serve") words="--config --http --https --admin --store --workers --log --set --demo --help" ;;
    "check") words="--config --http --https --admin --store --workers --log --set --help" ;;
    "route list") words="--host --limit --json --admin --ca --insecure --config --help" ;;
    "route get") words="--json --admin --ca --insecure --config --help" ;;
    "route put") words="--pool --split --redirect --redirect-status --keep-path --respond --body --https --hsts --client-ca --client-auth --passthrough --tenant --strip-path --target-path --host-header --request-header --response-header --allow --deny --body-limit --buffer-request --connect-timeout --response-timeout --request-timeout --retries --no-access-log --set-json --file --wait --wait-timeout --json --admin --ca --insecure --config --help" ;;
    "route rm") words="--wait --wait-timeout --admin --ca --insecure --config --help" ;;
    "pool list") words="--limit --json --admin --ca --insecure --config --help" ;;
    "pool get") words="--json --admin --ca --insecure --config --help" ;;
    "pool put") words="--balance --hash --sticky --health --health-type --health-interval --health-timeout --health-status --max-fails --slow-start --requests-per-target --queue --queue-timeout --retry-budget --protocol --send-proxy --tls-ca --tls-server-name --tls-client-certificate --no-verify --keepalive --connect-timeout --response-timeout --request-timeout --set-json --file --wait --wait-timeout --json --admin --ca --insecure --config --help" ;;
    "pool rm") words="--wait --wait-timeout --admin --ca --insecure --config --help" ;;
    "pool drain") words="--wait --remove-after --admin --ca --insecure --config --help" ;;
    "pool up") words="--admin --ca --insecure --config --help" ;;
    "pool switch") words="--to --wait-healthy --json --admin --ca --insecure --config --help" ;;
    "cert list") words="--limit --json --admin --ca --insecure --config --help" ;;
    "cert get") words="--json --admin --ca --insecure --config --help" ;;
    "cert put") words="--chain --key --host --watch --wait --wait-timeout --json --admin --ca --insecure --config --help" ;;
    "cert rm") words="--wait --wait-timeout --admin --ca --insecure --config --help" ;;
    "apply") words="--dry-run --json --admin --ca --insecure --config --help" ;;
    "export") words="--yaml --secrets --admin --ca --insecure --config --help" ;;
    "status") words="--json --admin --ca --insecure --config --help" ;;
    "nodes") words="--json --admin --ca --insecure --config --help" ;;
    "store copy") words="--merge --replace --secrets --encryption-key-file --from-prefix --to-prefix --password-file --ca-file --json --help" ;;
    "import hipache") words="--prefix --dry-run --redis-ca --redis-insecure --json --admin --ca --insecure --config --help" ;;
    "import auto-ssl") words="--prefix --dry-run --redis-ca --redis-insecure --json --admin --ca --insecure --config --help" ;;
    "import traefik") words="--prefix --entry-point --dry-run --redis-ca --redis-insecure --json --admin --ca --insecure --config --help" ;;
    "version") words="--help" ;;
    "help") words="--man --bash --help" ;;
    esac
  fi
  if [ -n "$words" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -o filenames -F _pointsman pointsman
