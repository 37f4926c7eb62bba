# shellcheck shell=bash
# Sourced by demo.sh: pictures of the page and of the terminal as they are at this moment, when DEMO_PICTURES names a folder.

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)

# shoot FILE WIDTH HEIGHT URL [FLAGS]
shoot() {
  local file=$1 width=$2 height=$3 url=$4
  shift 4
  "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-proxy-server --hide-scrollbars --lang=en \
    --user-data-dir="$scratch/browser" --virtual-time-budget=4000 --window-size="$width,$height" "$@" --screenshot="$file" "$url" \
    >>"$scratch/browser.log" 2>&1
}

# picture_page NAME: light, dark and on a phone.
picture_page() {
  [ -n "${DEMO_PICTURES:-}" ] || return 0
  local url=http://127.0.0.1:$page/
  shoot "$DEMO_PICTURES/$1.png" 1100 1180 "$url"
  shoot "$DEMO_PICTURES/$1-dark.png" 1100 1180 "$url" --blink-settings=preferredColorScheme=0
  shoot "$DEMO_PICTURES/$1-phone.png" 500 1000 "$url"
}

# picture_terminal NAME HEIGHT COMMAND...: what the command shows on a terminal of 120 columns.
picture_terminal() {
  [ -n "${DEMO_PICTURES:-}" ] || return 0
  local name=$1 height=$2
  shift 2
  {
    printf '\e[2m$\e[0m etcdguardian %s\n' "$*"
    script -qec "stty cols 120; '$ETCDGUARDIAN' --log error --config '$scratch/guardian.yaml' $*" /dev/null </dev/null || true
  } | sed "s#$scratch#/demo#g" | python3 "$here/terminal.py" "$name" >"$scratch/$name.html"
  shoot "$DEMO_PICTURES/$name.png" 1080 "$height" "file://$scratch/$name.html"
}
