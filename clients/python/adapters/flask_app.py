"""Flask: a view that was killed after the effect is called again with the same webhook.

    python adapters/flask_app.py
"""

import os

import flask
from web import SECRET, handled, supervise
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger, RelayedEvent, StepContext
from hookonce.flask import webhook

app = flask.Flask("bank")


@app.after_request
def watch(response: flask.Response) -> flask.Response:
    if response.status_code == 200:
        handled()
    return response


if IS_ONCE:

    @app.post("/webhooks")
    @webhook(Ledger(), SECRET, lease=LEASE, on_lost="hold", reconcile=find_out)
    def paid(ctx: StepContext, event: RelayedEvent) -> str:
        return charge_at_bank(event.json()["amount"])

else:

    @app.post("/webhooks")
    def naive() -> str:
        return charge_at_bank(flask.request.get_json()["amount"])


def live() -> None:
    app.run(port=int(os.environ["PORT"]))


if __name__ == "__main__":
    main(__file__, live, supervise)
