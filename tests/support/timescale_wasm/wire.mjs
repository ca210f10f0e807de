// TimescaleDB as WebAssembly (PGlite), behind a server that speaks PostgreSQL's wire protocol:
//
//     node wire.mjs PORT DATA_DIRECTORY
//
// PGlite is one backend. Every client gets a connection of its own, and the backend belongs to one of them at a time,
// from the first statement of a transaction to its end: the others wait. README.md says what follows from that.

import net from 'node:net'
import { PGlite } from '@electric-sql/pglite'
import { timescaledb } from '@electric-sql/pglite/timescaledb'
import { vector } from '@electric-sql/pglite/vector'
import {
  CANCEL_REQUEST, GSS_ENCRYPTION_REQUEST, SSL_REQUEST, bodyOf, closeStatement, copyInResponse, firstMessageLength,
  firstStartup, onlyPrepares, sync, transactionStatus, typeOf, welcome, withPrivateNames, without,
} from './protocol.mjs'

// PGlite sets search_path=pg_catalog, enable_seqscan=off and client_min_messages=debug3 on its command line, so these
// are what RESET ALL goes back to.
const USUAL_SETTINGS =
  `SET search_path="$user",public; SET enable_seqscan=on; SET client_min_messages=notice; SET TimeZone='UTC'`

const PARAMETERS = {
  server_version: '17.5',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  TimeZone: 'UTC',
  integer_datetimes: 'on',
  standard_conforming_strings: 'on',
  is_superuser: 'on',
  session_authorization: 'postgres',
  IntervalStyle: 'postgres',
}

// A client that pipelines without end must not be kept in memory as a whole.
const MESSAGES_HELD_AT_MOST = 512

// The one backend, and whose turn it is.
class Backend {
  #owner = null
  #waiting = []

  static async open(dataDirectory) {
    const database = await PGlite.create({ dataDir: dataDirectory, extensions: { timescaledb, vector } })
    await database.exec(USUAL_SETTINGS)
    // PGlite knows no shared_preload_libraries: without this a data directory that was opened before has hypertables
    // that nobody understands.
    await database.exec("LOAD 'timescaledb'")
    await database.exec('CREATE EXTENSION IF NOT EXISTS timescaledb')
    return new Backend(database)
  }

  constructor(database) {
    this.database = database
  }

  // Resolves when the backend belongs to `connection`; in the order they asked.
  async acquire(connection) {
    if (this.#owner === connection) return
    if (this.#owner === null) {
      this.#owner = connection
      return
    }
    await new Promise((resolve) => this.#waiting.push({ connection, resolve }))
  }

  release(connection) {
    if (this.#owner !== connection) return
    const next = this.#waiting.shift()
    this.#owner = next ? next.connection : null
    next?.resolve()
  }

  isOwnedBy(connection) {
    return this.#owner === connection
  }

  // The reply to a client's messages, as bytes. Errors are messages of the reply, too.
  async reply(messages) {
    return Buffer.from(await this.database.execProtocolRaw(new Uint8Array(messages)))
  }

  async restoreSettings() {
    await this.database.exec(USUAL_SETTINGS)
  }

  async rollBack() {
    await this.database.exec('ROLLBACK')
  }

  async close() {
    await this.database.close()
  }
}

// One client. Its messages are answered one after the other, in the order they came.
class Connection {
  static #nextId = 1

  #id = Connection.#nextId++
  #backend
  #socket
  #received = Buffer.alloc(0)
  #started = false
  #closed = false
  #work = Promise.resolve()
  #status = 'I'
  #held = [] // of the extended protocol, until the client wants an answer
  #copy = null // { query, data }: the messages of a COPY FROM STDIN so far
  #statements = new Set()

  constructor(backend, socket) {
    this.#backend = backend
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (bytes) => this.#receive(bytes))
    socket.on('close', () => this.#leave())
    socket.on('error', () => this.#leave())
  }

  #receive(bytes) {
    this.#received = Buffer.concat([this.#received, bytes])
    while (this.#started ? this.#takeMessage() : this.#takeStartup());
  }

  // Whether there was one.
  #takeStartup() {
    const startup = firstStartup(this.#received)
    if (startup === null) return false
    this.#received = this.#received.subarray(startup.length)
    if (startup.code === SSL_REQUEST || startup.code === GSS_ENCRYPTION_REQUEST) {
      this.#send(Buffer.from('N')) // no encryption here; the client goes on without it
    } else if (startup.code === CANCEL_REQUEST) {
      this.#socket.end() // the backend can't be interrupted
      return false
    } else {
      this.#started = true
      this.#send(welcome(this.#id, PARAMETERS))
    }
    return true
  }

  // Whether there was one.
  #takeMessage() {
    const length = firstMessageLength(this.#received)
    if (length === null) return false
    const whole = this.#received.subarray(0, length)
    this.#received = this.#received.subarray(length)
    this.#work = this.#work
      .then(() => (this.#closed ? undefined : this.#answer(whole)))
      .catch((error) => {
        console.error('connection', this.#id, error.message ?? error)
        this.#socket.destroy()
        this.#backend.release(this)
      })
    return true
  }

  async #answer(whole) {
    const type = typeOf(whole)
    if (this.#copy !== null && 'dcfHS'.includes(type)) return this.#continueCopy(type, whole)
    if (type === 'X') return void this.#socket.end() // Terminate
    if (type === 'Q') return this.#simpleQuery(whole)
    return this.#extendedQuery(type, whole)
  }

  async #simpleQuery(whole) {
    await this.#backend.acquire(this)
    const sql = bodyOf(whole).toString()
    if (/^\s*COPY\s[\s\S]*\sFROM\s+STDIN/i.test(sql)) {
      // The backend wants a COPY with all its data in one call: say yes in its place, and collect.
      this.#copy = { query: whole, data: [] }
      this.#send(copyInResponse(/binary/i.test(sql)))
      return
    }
    const reply = await this.#backend.reply(whole)
    if (/\b(RESET|DISCARD)\s+ALL\b/i.test(sql) && transactionStatus(reply) === 'I') {
      await this.#backend.restoreSettings()
    }
    this.#finish(reply)
  }

  async #continueCopy(type, whole) {
    if (type === 'd') { // CopyData
      this.#copy.data.push(whole)
    } else if (type === 'c' || type === 'f') { // CopyDone, CopyFail
      const messages = Buffer.concat([this.#copy.query, ...this.#copy.data, whole])
      this.#copy = null
      const reply = await this.#backend.reply(messages)
      this.#finish(reply, without('G', reply)) // CopyInResponse was sent before
    } // Flush and Sync mean nothing during a COPY
  }

  // Parse, Bind, Describe, Execute, Close go to the backend together, when the client asks for an answer by Sync or
  // Flush: another connection's messages must not come between them.
  async #extendedQuery(type, whole) {
    // A client that prepares a statement asks for the answer by Flush, and may run it much later, or never. With a Sync
    // in its place the backend is ready for others meanwhile; the client must not hear of that. (The unnamed statement
    // would not outlive the others' own: who prepares that keeps the backend.)
    const preparing = type === 'H' && this.#held.length > 0 && this.#held.every(onlyPrepares)
    this.#held.push(
      preparing
        ? sync()
        : withPrivateNames(whole, this.#prefix, {
            opened: (name) => this.#statements.add(name),
            closed: (name) => this.#statements.delete(name),
          }),
    )
    if (type !== 'S' && type !== 'H' && this.#held.length < MESSAGES_HELD_AT_MOST) return
    const messages = Buffer.concat(this.#held)
    this.#held = []
    await this.#backend.acquire(this)
    const reply = await this.#backend.reply(messages)
    this.#finish(reply, preparing ? without('Z', reply) : reply)
  }

  // Sends what the client is to see of the reply; the backend is free again when that says that no transaction is open.
  #finish(reply, visible = reply) {
    const status = transactionStatus(reply)
    this.#status = status ?? this.#status
    this.#send(visible)
    if (status === 'I') this.#backend.release(this)
  }

  // Leaves the backend as a connection's end leaves a server: no open transaction, no prepared statements.
  #leave() {
    if (this.#closed) return
    this.#closed = true
    this.#work = this.#work
      .then(async () => {
        if (!this.#backend.isOwnedBy(this) && this.#statements.size === 0) return
        await this.#backend.acquire(this)
        if (this.#status !== 'I') await this.#backend.rollBack()
        for (const name of this.#statements) {
          await this.#backend.reply(Buffer.concat([closeStatement(this.#prefix + name), sync()]))
        }
      })
      .catch((error) => console.error('connection', this.#id, 'at its end:', error.message ?? error))
      .finally(() => this.#backend.release(this))
  }

  // Two clients may prepare statements of one name.
  get #prefix() {
    return `c${this.#id}_`
  }

  #send(bytes) {
    if (!this.#socket.destroyed && bytes.length) this.#socket.write(bytes)
  }
}

const [port, dataDirectory] = process.argv.slice(2)
const backend = await Backend.open(dataDirectory)
const server = net.createServer((socket) => new Connection(backend, socket))

const stop = async () => {
  server.close()
  await backend.close().catch((error) => console.error('at the end:', error.message ?? error))
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)

server.listen(Number(port), '127.0.0.1', () => console.log(`TimescaleDB listens on ${port}, data in ${dataDirectory}`))
