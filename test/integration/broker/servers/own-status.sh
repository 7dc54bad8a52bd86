#!/bin/sh
# An MCP server of the shell alone, so that any user can run a copy of it: its one tool says who it is.
tool='{"name":"status","description":"Lines of /proc/self/status","inputSchema":{"type":"object"}}'
pwd >/dev/null && ls "$PWD" >/dev/null || exit 3 # its working directory is within its reach
while read -r request; do
  id=$(printf '%s' "$request" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  [ -n "$id" ] || continue
  case "$request" in
    *'"initialize"'*)
      result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"status","version":"1"}}' ;;
    *'"tools/list"'*) result="{\"tools\":[$tool]}" ;;
    *) result="{\"content\":[{\"type\":\"text\",\"text\":\"$(tr '\t\n' ' ;' </proc/self/status)\"}]}" ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
