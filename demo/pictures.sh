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

# picture_page: its upper part light, dark and on a phone, and the whole of it.
picture_page() {
  [ -n "${DEMO_PICTURES:-}" ] || return 0
  local url=http://127.0.0.1:$page/
  shoot "$DEMO_PICTURES/page.png" 1100 860 "$url"
  shoot "$DEMO_PICTURES/page-dark.png" 1100 860 "$url" --blink-settings=preferredColorScheme=0
  shoot "$DEMO_PICTURES/page-phone.png" 500 1000 "$url"
  shoot "$DEMO_PICTURES/page-whole.png" 1100 2150 "$url"
}

# picture_alert: the upper part while an alert stands.
picture_alert() {
  [ -n "${DEMO_PICTURES:-}" ] || return 0
  shoot "$DEMO_PICTURES/page-alert.png" 1100 560 "http://127.0.0.1:$page/"
}

# picture_terminal NAME COMMAND...: what the command shows on a terminal of 120 columns.
picture_terminal() {
  [ -n "${DEMO_PICTURES:-}" ] || return 0
  local name=$1 lines
  shift
  {
    printf '\e[2m$\e[0m etcdguardian %s\n' "$*"
    script -qec "stty cols 120; '$ETCDGUARDIAN' --log error --config '$scratch/guardian.yaml' $*" /dev/null </dev/null || true
  } | sed "s#$scratch#/demo#g" >"$scratch/$name.txt"
  # As high as its rows, of 20.3 pixels each, and a frame.
  lines=$(python3 "$here/terminal.py" "$name" "$scratch/$name.html" <"$scratch/$name.txt")
  # A browser draws nothing well that is lower than 160.
  shoot "$DEMO_PICTURES/$name.png" 1080 $((lines < 6 ? 160 : lines * 203 / 10 + 38)) "file://$scratch/$name.html"
}
