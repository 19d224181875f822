"""Pass TCP connections between two network namespaces: `relay.py LISTENER HOST PORT`.

LISTENER is an inherited listening socket. A socket stays in the namespace that it was made in, so this process listens
on the machine's loopback and, itself in the cluster's namespace, connects to HOST:PORT there. Standard library alone.
"""

import asyncio
import socket
import sys

_CHUNK_BYTES = 1 << 18


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader's end; then close that direction alone, as HTTP clients may still be reading."""
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


async def _serve(listener: socket.socket, host: str, port: int) -> None:
    connections: set[asyncio.Task[None]] = set()  # the loop itself would let running tasks be collected

    async def pass_on(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        writers = [near_writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port, limit=_CHUNK_BYTES)
            writers.append(far_writer)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(_pump(near_reader, far_writer))
                directions.create_task(_pump(far_reader, near_writer))
        except* OSError:
            # A reset or refused connection on one side becomes a reset on the other.
            for writer in writers:
                writer.transport.abort()
        for writer in writers:
            writer.close()

    def connect(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(pass_on(near_reader, near_writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connect, sock=listener, limit=_CHUNK_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
