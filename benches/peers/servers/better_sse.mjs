// better-sse as its guide shows it: GET is a session of the one channel, POST broadcasts its body.
import { createServer } from "node:http";
import { createChannel, createSession } from "better-sse";

const channel = createChannel();

const server = createServer(async (request, response) => {
  if (request.method === "GET") {
    channel.register(await createSession(request, response, { keepAlive: 15_000 }));
    return;
  }
  let body = "";
  for await (const piece of request.setEncoding("utf8")) body += piece;
  channel.broadcast(body);
  response.writeHead(204).end();
});
server.keepAliveTimeout = 3_600_000;
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
