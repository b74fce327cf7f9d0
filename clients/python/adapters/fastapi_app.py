"""FastAPI: an endpoint that was killed after the effect is called again with the same webhook.

    python adapters/fastapi_app.py
"""

import os
from typing import Any

import fastapi
import uvicorn
from web import SECRET, handled, supervise
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger, RelayedEvent, StepContext
from hookonce.fastapi import webhook

app = fastapi.FastAPI()


@app.middleware("http")
async def watch(request: fastapi.Request, call_next: Any) -> Any:
    response = await call_next(request)
    if response.status_code == 200:
        handled()
    return response


if IS_ONCE:

    @app.post("/webhooks")
    @webhook(Ledger(), SECRET, lease=LEASE, on_lost="hold", reconcile=find_out)
    async def paid(ctx: StepContext, event: RelayedEvent) -> str:
        return charge_at_bank(event.json()["amount"])

else:

    @app.post("/webhooks")
    async def naive(request: fastapi.Request) -> str:
        return charge_at_bank((await request.json())["amount"])


def live() -> None:
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="error")


if __name__ == "__main__":
    main(__file__, live, supervise)
