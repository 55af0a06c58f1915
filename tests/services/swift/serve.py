"""serve.py SERVER ETC: runs one of Swift's servers; left alone, Swift looks for storage policies in /etc/swift only."""

import importlib
import sys

from swift.common import utils

name, etc = sys.argv[1:]
utils.set_swift_dir(etc)  # before Swift's other modules are imported: they read policies and limits then
sys.argv = [f"swift-{name}-server", f"{etc}/{name}-server.conf", "-v"]
importlib.import_module(f"swift.{'obj' if name == 'object' else name}.server").main()
