"""profile/*: the account's own view of itself."""

from sqlalchemy import Connection

from services.gateway.answers import Reply, date
from services.gateway.params import Params
from shared.db import accounts
from shared.db.accounts import Caller
from shared.db.schema import POSTBACKS
from shared.domain.plans import PLANS


def info(tx: Connection, caller: Caller, _: Params) -> Reply:
    """The account, its plan and its global templates."""
    row = accounts.get_profile(tx, caller.id)
    plan = PLANS[row["plan"]]
    return Reply(
        {
            "id": row["id"],
            "name": row["name"],
            "login": row["login"],
            "lang": row["lang"],
            "tariff": plan.code,
            "tariff_name": plan.name,
            "tariff_campaigns": plan.campaigns_max,
            "paid_until": date(row["paid_until"]),
            "campaigns": row["campaigns"],
            **{name: row[name] for name in POSTBACKS},
            "notify": {"tariff": int(row["notify_tariff"]), "leads": int(row["notify_leads"])},
        }
    )
