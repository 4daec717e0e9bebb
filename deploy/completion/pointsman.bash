# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of pointsman for bash. Made by: pointsman help --bash
_pointsman() {
  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="serve check route pool apply export status version help"
  elif [ "$COMP_CWORD" -eq 2 ]; then
    case $command in
    route) words="list get put rm" ;;
    pool) words="list get put rm drain up" ;;
    esac
  fi
  if [ -z "$words" ] && [[ $current == -* ]]; then
    case $command in
    route | pool) command="$command ${COMP_WORDS[2]}" ;;
    esac
    case $command in
    "serve") words="--config --http --https --admin --store --workers --log --set --demo --help" ;;
    "check") words="--config --http --https --admin --store --workers --log --set --help" ;;
    "route list") words="--host --limit --json --admin --config --help" ;;
    "route get") words="--json --admin --config --help" ;;
    "route put") words="--pool --split --redirect --redirect-status --keep-path --respond --body --https --tenant --strip-path --target-path --host-header --request-header --response-header --allow --deny --body-limit --buffer-request --connect-timeout --response-timeout --retries --no-access-log --set-json --file --json --admin --config --help" ;;
    "route rm") words="--admin --config --help" ;;
    "pool list") words="--limit --json --admin --config --help" ;;
    "pool get") words="--json --admin --config --help" ;;
    "pool put") words="--balance --keepalive --connect-timeout --response-timeout --set-json --file --json --admin --config --help" ;;
    "pool rm") words="--admin --config --help" ;;
    "pool drain") words="--remove-after --admin --config --help" ;;
    "pool up") words="--admin --config --help" ;;
    "apply") words="--dry-run --json --admin --config --help" ;;
    "export") words="--yaml --admin --config --help" ;;
    "status") words="--json --admin --config --help" ;;
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
