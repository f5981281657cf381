"""Run by tests: a server with a slow fake engine, in a process that can be killed. Prints its address.

python -m tests.dialects.batch_server HOME PAUSE
"""

import sys
import time
from pathlib import Path

from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, live


def main(home: Path, pause: float) -> None:
    settings = Settings(home=home, parallel=3)
    with Store.open(settings.store) as store:
        add_model(store, "helpdesk")
        with live(create_app(settings, store, engine=FakeEngine(pause=pause))) as url:
            print(url, flush=True)
            time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
