#!/bin/sh
# broker.sh FOLDER PORT VHOSTS: becomes a RabbitMQ server that listens on 127.0.0.1:PORT and keeps everything in FOLDER.
# Besides the vhost / it has test-1 to test-VHOSTS; guest, with the usual password, may do everything in all of them. So may the user
# deaf, with the same password, but for reading the queue souk.relay.
# Started again with the same arguments, it goes on with what it had. Ended by a signal to its process group.
set -eu

folder=$1 port=$2 vhosts=$3

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

mkdir -p "$folder/home"
# No plugins: an Erlang list.
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
    "users": [{"name": user, "password_hash": password, "tags": "administrator"} for user in readable],
    "vhosts": [{"name": name} for name in names],
    "permissions": [
        {"user": user, "vhost": name, "configure": ".*", "write": ".*", "read": read}
        for user, read in readable.items()
        for name in names
    ],
}))
END

# A cookie and a port mapper of its own, so that it meets no other Erlang node.
export HOME="$folder/home" ERL_EPMD_ADDRESS=127.0.0.1
ERL_EPMD_PORT=$(free_port)
RABBITMQ_DIST_PORT=$(free_port)
export ERL_EPMD_PORT RABBITMQ_DIST_PORT
export RABBITMQ_NODENAME=souk-test@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
export RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_PID_FILE="$folder/pid"
export RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RABBITMQ_FEATURE_FLAGS_FILE="$folder/feature_flags"
export RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE=/dev/null
# Its threads sleep when they have nothing to do.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
# With this the script becomes the server instead of waiting for it.
export RUNNING_UNDER_SYSTEMD=true

epmd -port "$ERL_EPMD_PORT" &
# Debian's wrapper in PATH would change to the user rabbitmq, who cannot write here.
exec /usr/lib/rabbitmq/bin/rabbitmq-server >"$folder/out" 2>&1
