"""Telegram: what happens at customers' bots and in their chats becomes leads; what bots have to say is sent."""
