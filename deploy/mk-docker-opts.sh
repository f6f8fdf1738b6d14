#!/bin/sh
# Options for dockerd from flannel's env file: `weft mk-docker-opts` under the name that unit
# files and images know. Takes the weft beside this file, else the one in PATH.
here=$(dirname "$(readlink -f "$0")")
weft=$here/weft
[ -x "$weft" ] || weft=weft
exec "$weft" mk-docker-opts "$@"
