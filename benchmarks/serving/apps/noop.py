"""Reads the body and answers a constant: the least that an ASGI application can do.

    python noop.py PORT

Runs under the same uvicorn with the same settings as ours, its HTTP protocol included.
"""

import sys

import uvicorn

ANSWER = b'{"iris_class":0}'
HEADERS = [(b"content-length", b"%d" % len(ANSWER)), (b"content-type", b"application/json")]


async def application(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(
        application,
        port=int(sys.argv[1]),
        lifespan="off",
        loop="uvloop",
        http="mlops_for_mle.serving.http.protocol:ServingProtocol",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )
