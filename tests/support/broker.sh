#!/bin/sh
# Usage: broker.sh FOLDER PORT VHOSTS
# Becomes a RabbitMQ server that listens on 127.0.0.1:PORT and keeps all its data in FOLDER.
# Besides the vhost / it has test-1 to test-VHOSTS. The user guest, with the usual password, has all
# permissions in all of them. The user deaf has the same, except that it cannot read the queue
# souk.relay.
# A restart with the same arguments reuses the data. A signal to the process group ends the server.
set -eu

folder=$1 port=$2 vhosts=$3

free_port() {
  python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

mkdir -p "$folder/home"
# An Erlang list: no plugins.
echo '[].' >"$folder/enabled_plugins"
cat >"$folder/rabbitmq.conf" <<END
listeners.tcp.default = 127.0.0.1:$port
load_definitions = $folder/definitions.json
END
python3 - "$vhosts" >"$folder/definitions.json" <<'END'
import base64, hashlib, json, sys

names = ["/"] + [f"test-{number}" for number in range(1, int(sys.argv[1]) + 1)]
salt = b"souk"
password = base64.b64encode(salt + hashlib.sha256(salt + b"guest").digest()).decode()
readable = {"guest": ".*", "deaf": r"^(?!souk\.relay$).*"}
print(json.dumps({
    "users": [
        {"name": user, "password_hash": password, "tags": "administrator"} for user in readable
    ],
    "vhosts": [{"name": name} for name in names],
    "permissions": [
        {"user": user, "vhost": name, "configure": ".*", "write": ".*", "read": read}
        for user, read in readable.items()
        for name in names
    ],
}))
END

# Its own cookie and port mapper keep it apart from other Erlang nodes.
export HOME="$folder/home" ERL_EPMD_ADDRESS=127.0.0.1
ERL_EPMD_PORT=$(free_port)
RABBITMQ_DIST_PORT=$(free_port)
export ERL_EPMD_PORT RABBITMQ_DIST_PORT
# For rabbitmqctl.
echo "$ERL_EPMD_PORT" >"$folder/epmd_port"
export RABBITMQ_NODENAME=souk-test@localhost
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
export RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log"
export RABBITMQ_PID_FILE="$folder/pid"
export RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins"
export RABBITMQ_FEATURE_FLAGS_FILE="$folder/feature_flags"
export RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE=/dev/null
# Idle schedulers sleep instead of spinning.
idle="+sbwt none +sbwtdcpu none +sbwtdio none"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$idle -kernel inet_dist_use_interface {127,0,0,1}"
# With this variable the server script replaces this process instead of waiting for the server.
export RUNNING_UNDER_SYSTEMD=true

epmd -port "$ERL_EPMD_PORT" &
# Debian's wrapper in PATH would switch to the user rabbitmq, who cannot write here.
exec /usr/lib/rabbitmq/bin/rabbitmq-server >"$folder/out" 2>&1
