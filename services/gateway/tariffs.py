"""tariff/*: the price list."""

from sqlalchemy import Connection

from services.gateway.answers import Reply
from services.gateway.params import Params
from shared.db.accounts import Caller
from shared.domain.plans import PLANS


def list_tariffs(_tx: Connection, _caller: Caller, _: Params) -> Reply:
    """What each plan allows and costs for 30 days."""
    return Reply(
        [
            {
                "code": plan.code,
                "name": plan.name,
                "campaigns": plan.campaigns_max,
                "price_usd": plan.price_usd,
                "price_rub": plan.price_rub,
            }
            for plan in PLANS.values()
        ]
    )
