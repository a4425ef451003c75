#!/bin/bash
# lh_jax on a Cloud TPU VM: every worker runs this; from lh_jax/launch/templates/tpu_vm.sh.
# {{origin}}
# gcloud runs it again where the connection breaks, so it never starts a second run: it follows the one there is.
run="$HOME/lh_jax_launch/{{name}}" # .log, .pid of the training process, .exit with its exit code
host=$(hostname)
mkdir -p "$HOME/lh_jax_launch"
touch "$run.log"
start=$(($(wc -c <"$run.log") + 1))

train() {
  trap "" HUP INT # A closed terminal must not end the training.
  trap 'echo $? >"$run.exit"' EXIT
  cd {{directory}} || exit
  {{setup}}
  {{exports}}
  {{command}} &
  echo $! >"$run.pid"
  wait $!
}

# The number of a process is used again after a while, so its command is looked at too.
if [ -s "$run.pid" ] && tr "\0" " " 2>/dev/null <"/proc/$(cat "$run.pid")/cmdline" | grep -qF -- "-m {{module}} "; then
  echo "[$host] {{name}} runs already, as process $(cat "$run.pid"); this is its log, a changed command has no effect"
else
  rm -f "$run.pid" "$run.exit"
  echo "$(date -u +%FT%TZ) {{name}} starts on $host" >>"$run.log"
  train >>"$run.log" 2>&1 </dev/null &
  until [ -s "$run.pid" ] || [ -s "$run.exit" ]; do sleep 0.2; done
fi

if [ -s "$run.pid" ]; then
  tail -c "+$start" --pid="$(cat "$run.pid")" -f "$run.log" | sed -u "s/^/[$host] /"
else
  tail -c "+$start" "$run.log" | sed "s/^/[$host] /"
fi
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ -s "$run.exit" ] && exit "$(cat "$run.exit")"
  sleep 0.5
done
echo "[$host] the training process is gone and has left no exit code"
exit 1
