#!/usr/bin/env bash
# A Slurm of one node on this machine, to try things on: Debian's packages slurm-wlm and munge, as root.
#   scripts/slurm/test_cluster.sh start FOLDER    then the exports that it prints
#   scripts/slurm/test_cluster.sh stop FOLDER
# It keeps no accounting: a sacct of its own, in FOLDER/bin, asks the controller instead.
# Everything lies in FOLDER, but for munge's key in /etc/munge, which is made if it is not there.
set -euo pipefail

usage() {
    echo "usage: $0 start|stop FOLDER" >&2
    exit 2
}

[[ $# -eq 2 ]] || usage
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

need() {
    command -v "$1" >/dev/null || PATH=$PATH:/usr/sbin command -v "$1" >/dev/null || {
        echo "$1 is not there; apt-get install slurm-wlm munge" >&2
        exit 3
    }
}

runs() {
    [[ -f $folder/$1.pid ]] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null
}

# Two of them may run beside each other, in folders of their own.
free_port() {
    python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}

write_conf() {
    local host cores memory
    host=$(hostname -s)
    cores=$(nproc)
    memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.8) }' /proc/meminfo)
    cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

# What submitit asks for the states of jobs: an array is told as JOB_TASK, or JOB_[TASKS] while it waits.
write_sacct() {
    mkdir -p "$folder/bin"
    cat >"$folder/bin/sacct" <<'SACCT'
#!/usr/bin/env bash
echo "JobID|State|NodeList"
scontrol --oneliner show job 2>/dev/null | awk '{
    split("", told)
    for (i = 1; i <= NF; i++) {
        place = index($i, "=")
        told[substr($i, 1, place - 1)] = substr($i, place + 1)
    }
    id = told["JobId"]
    if ("ArrayJobId" in told) {
        task = told["ArrayTaskId"]
        id = told["ArrayJobId"] "_" (task ~ /[-,]/ ? "[" task "]" : task)
    }
    if (id != "") print id "|" told["JobState"] "|" told["NodeList"]
}'
SACCT
    chmod +x "$folder/bin/sacct"
}

start() {
    need munged && need slurmctld && need slurmd
    # Where it is owned by others, munged does not trust the folder.
    chmod 755 "$folder"
    mkdir -p "$folder/state" "$folder/spool"
    runs slurmctld || write_conf
    write_sacct
    if [[ ! -f /etc/munge/munge.key ]]; then
        mkdir -p /etc/munge
        (umask 077 && dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none)
    fi
    runs munged || /usr/sbin/munged --force --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munged.seed" --key-file=/etc/munge/munge.key
    runs slurmctld || /usr/sbin/slurmctld
    runs slurmd || /usr/sbin/slurmd
    for _ in $(seq 60); do
        if [[ $(sinfo --noheader --format=%T 2>/dev/null) =~ idle|mixed|allocated ]]; then
            echo "export SLURM_CONF=$SLURM_CONF PATH=$folder/bin:\$PATH"
            return
        fi
        sleep 0.5
    done
    echo "Slurm did not start; see $folder/slurmctld.log and $folder/slurmd.log" >&2
    exit 1
}

stop() {
    for name in slurmd slurmctld munged; do
        if runs "$name"; then
            kill "$(cat "$folder/$name.pid")"
            for _ in $(seq 40); do
                runs "$name" || break
                sleep 0.25
            done
        fi
    done
}

case $action in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
