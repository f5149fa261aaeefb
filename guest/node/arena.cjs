"use strict";
// Long bodies in memory that platform and guest share, instead of in pieces over the connection. Node maps no files, so
// the memory is read and written as one. The platform writes request bodies into the first half and says in INVOKE where;
// answers are written into the second, one at a time, when the platform has taken all that were written before.

const fs = require("fs");

const ARENA_FD = 4;
const KEPT_MAX = 1024 * 1024; // bytes of the buffer for request bodies that are kept between calls

class Arena {
  constructor(bytes, socketMax) {
    this.half = bytes / 2;
    this.socketMax = socketMax;
    this.kept = Buffer.alloc(0);
    this.written = 0; // answers, modulo 2^16
    this.taken = 0; // of them, as the platform said last
  }

  // The request body that lies in a place; valid until the next one is asked for.
  body(place) {
    const offset = place.readUInt32LE(0), length = place.readUInt32LE(4);
    const body = this.room(length);
    let read = 0;
    while (read < length) read += fs.readSync(ARENA_FD, body, read, length - read, offset + read);
    return body;
  }

  room(length) {
    if (length > KEPT_MAX) return Buffer.allocUnsafeSlow(length);
    if (this.kept.length < length) this.kept = Buffer.allocUnsafeSlow(KEPT_MAX);
    return this.kept.subarray(0, length);
  }

  // Writes an answer and gives its place; null where it must go over the connection.
  put(body) {
    const { length } = body;
    if (length <= this.socketMax || length > this.half || this.written !== this.taken) return null;
    let sent = 0;
    try {
      while (sent < length) sent += fs.writeSync(ARENA_FD, body, sent, length - sent, this.half + sent);
    } catch {
      return null; // no memory
    }
    this.written = (this.written + 1) & 0xffff;
    const place = Buffer.allocUnsafe(8);
    place.writeUInt32LE(this.half, 0);
    place.writeUInt32LE(length, 4);
    return place;
  }
}

module.exports = { Arena };
