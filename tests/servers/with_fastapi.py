"""FastAPI, as its documentation begins."""

import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def who():
    return os.environ["NODE_APP_INSTANCE"]
