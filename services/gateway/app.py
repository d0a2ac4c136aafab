"""The gateway's application: every route, and what the routes share."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, Final

import falcon.asgi
import structlog

from services.gateway import bots, campaigns, leads, notices, profile, tariffs, transfers
from services.gateway.connections import Connections
from services.gateway.endpoints import Endpoint, ErrorAnswers, Gateway, Request, Resource, make_callers
from services.gateway.health import Health
from services.gateway.intake import Intake
from services.gateway.outcomes import Listener, Waiters, Waker
from services.gateway.params import Page, Params
from shared.db.connect import engine
from shared.sealing import Sealer

ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint("GET", "/api/profile/info.json", Params, read=profile.info, open_when_lapsed=True),
    Endpoint("GET", "/api/tariff/list.json", Params, read=tariffs.list_tariffs, open_when_lapsed=True),
    Endpoint("GET", "/api/bots/list.json", Page, read=bots.list_bots),
    Endpoint("POST", "/api/bots/add.json", bots.NewBot, command=bots.add_bot),
    Endpoint("GET", "/api/bots/chats.json", bots.ChatsOf, read=bots.list_chats),
    Endpoint("POST", "/api/bots/del.json", bots.BotId, write=bots.delete_bot),
    Endpoint("POST", "/api/bots/moved.json", bots.Moved, write=bots.answer_moved),
    Endpoint("GET", "/api/camp/list.json", Page, read=campaigns.list_campaigns),
    Endpoint("GET", "/api/camp/get.json", campaigns.CampaignId, read=campaigns.get_campaign),
    Endpoint("GET", "/api/camp/link.json", campaigns.CampaignId, read=campaigns.get_link),
    Endpoint("POST", "/api/camp/add.json", campaigns.NewCampaign, write=campaigns.add_campaign),
    Endpoint("POST", "/api/camp/edit.json", campaigns.Edit, write=campaigns.edit_campaign),
    Endpoint("POST", "/api/camp/pause.json", campaigns.CampaignId, write=campaigns.pause_campaign),
    Endpoint("POST", "/api/camp/resume.json", campaigns.CampaignId, write=campaigns.resume_campaign),
    Endpoint("POST", "/api/camp/del.json", campaigns.CampaignId, write=campaigns.delete_campaign),
    Endpoint("GET", "/api/leads/list.json", leads.Wanted, read=leads.list_leads),
    Endpoint("GET", "/api/notices/list.json", Page, read=notices.list_notices),
    Endpoint("GET", "/api/transfer/token.json", Params, read=transfers.get_token),
    Endpoint("POST", "/api/transfer/token.json", Params, write=transfers.renew_token),
    Endpoint("GET", "/api/transfer/resolve.json", transfers.Resolve, read=transfers.resolve),
    Endpoint("POST", "/api/transfer/bot.json", transfers.TransferBot, command=transfers.transfer_bot),
    Endpoint("POST", "/api/transfer/camp.json", transfers.TransferCampaign, command=transfers.transfer_campaign),
    Endpoint("GET", "/api/transfer/preview.json", transfers.Preview, read=transfers.preview),
    Endpoint("GET", "/api/transfer/status.json", transfers.TransferId, read=transfers.status),
    Endpoint("GET", "/api/transfer/list.json", Page, read=transfers.list_transfers),
)

#: Threads for reads and small writes, and as many connections.
THREADS: Final = 8

#: The same for authentication and commands, apart: somebody's slow list must not hold up somebody else's transfer.
COMMAND_THREADS: Final = 4


log = structlog.get_logger("gateway")


class Lifespan:
    """Starts and ends what runs beside the requests."""

    def __init__(self, *runners: Listener | Waker) -> None:
        self._runners = runners
        self._tasks: list[asyncio.Task[None]] = []

    async def process_startup(self, _scope: Any, _event: Any) -> None:
        """Called by Falcon before the first request."""
        self._tasks = [asyncio.create_task(runner.run()) for runner in self._runners]
        for task in self._tasks:
            task.add_done_callback(self._end_if_failed)

    @staticmethod
    def _end_if_failed(task: asyncio.Task[None]) -> None:
        """A gateway that has gone deaf would answer late for ever; one that ends is started again."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("gateway_ends", exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """Called by Falcon after the last request."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def create_app(database_url: str, amqp_url: str, sealer: Sealer, *, deadline_s: float) -> falcon.asgi.App[Any, Any]:
    """The whole application of one gateway process."""
    db = engine(database_url, name="gateway", connections=THREADS)
    executor = ThreadPoolExecutor(THREADS, thread_name_prefix="database")
    command_db = engine(database_url, name="gateway commands", connections=COMMAND_THREADS)
    command_executor = ThreadPoolExecutor(COMMAND_THREADS, thread_name_prefix="commands")
    waiters = Waiters()
    listener, waker = Listener(database_url, waiters), Waker(database_url)
    gateway = Gateway(
        db=db,
        executor=executor,
        intake=Intake(command_db, command_executor, waiters, waker, deadline_s=deadline_s),
        connections=Connections(command_db, command_executor, waiters, waker, sealer, deadline_s=deadline_s),
        callers=make_callers(command_db, command_executor),
    )
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(request_type=Request, middleware=[Lifespan(listener, waker)])
    app.req_options.strip_url_path_trailing_slash = False
    ErrorAnswers().add_to(app)
    for path, endpoints in groupby(ENDPOINTS, key=lambda endpoint: endpoint.path):
        app.add_route(path, Resource(gateway, list(endpoints)))
    health = Health(database_url, amqp_url, listener, ThreadPoolExecutor(2, thread_name_prefix="health"))
    app.add_route("/healthz", health, suffix="alive")
    app.add_route("/readyz", health, suffix="ready")
    return app
