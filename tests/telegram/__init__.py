"""A Telegram server of our own, which speaks MTProto 2.0 to a real Telethon client.

It knows bots, people and chats, and is as nasty as the real one can be: see `nasty.py`. Tests start it inside themselves
(`server.serve`) or as a process with a control port (`remote.started`, or by hand `python -m tests.telegram`).
What it knows of itself, `record.py` keeps: what it owed each bot, what it was asked, what was sent, and by whom.

    transport -> session -> rpc -> methods    bytes, encrypted messages, requests, what they do
    people -> state -> courier -> session     what people do, what bots must learn of it, pushes
"""
