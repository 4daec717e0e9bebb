// SPDX-License-Identifier: MIT
// node node_origin.js PORT: echoes the request as JSON; /stream sends 100 chunks and a trailer,
// /early answers before the body has come, an Upgrade echoes bytes.
'use strict';
const http = require('http');

const server = http.createServer((req, res) => {
  if (req.url === '/stream') {
    res.writeHead(200, {'Content-Type': 'text/plain', 'Trailer': 'X-End'});
    for (let i = 0; i < 100; i++) {
      res.write(`line ${i}\n`);
    }
    res.addTrailers({'X-End': 'yes'});
    res.end();
    return;
  }
  if (req.url === '/early') {
    res.end('early');
    req.resume();
    return;
  }
  const pieces = [];
  req.on('data', (piece) => pieces.push(piece));
  req.on('end', () => {
    const headers = [];
    for (let i = 0; i < req.rawHeaders.length; i += 2) {
      headers.push([req.rawHeaders[i], req.rawHeaders[i + 1]]);
    }
    const body = Buffer.concat(pieces);
    res.setHeader('Content-Type', 'application/json');
    res.end(JSON.stringify({
      origin: 'node', method: req.method, target: req.url, version: `HTTP/${req.httpVersion}`,
      headers, body: body.toString('latin1'), body_len: body.length,
    }));
  });
});
server.on('upgrade', (req, socket, head) => {
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n` +
               `Upgrade: ${req.headers.upgrade}\r\n\r\n`);
  socket.write(head);
  socket.pipe(socket);
  socket.on('error', () => {});
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
