// PostgreSQL's wire protocol, as far as a server needs it that passes messages on.
//
// A message is one type byte, a 32-bit length that counts itself but not the type, and a body. A string is
// terminated by a zero byte. Source: PostgreSQL's documentation, chapter "Frontend/Backend Protocol".

const TYPE_BYTES = 1
const HEADER_BYTES = 5

// The 32-bit codes that stand where a startup message has its protocol version.
export const SSL_REQUEST = 80877103
export const GSS_ENCRYPTION_REQUEST = 80877104
export const CANCEL_REQUEST = 80877102

export const message = (type, body = Buffer.alloc(0)) => {
  const header = Buffer.alloc(HEADER_BYTES)
  header.write(type, 0)
  header.writeInt32BE(body.length + HEADER_BYTES - TYPE_BYTES, 1)
  return Buffer.concat([header, body])
}

export const typeOf = (whole) => String.fromCharCode(whole[0])
export const bodyOf = (whole) => whole.subarray(HEADER_BYTES)
export const cString = (text) => Buffer.from(`${text}\0`)
export const int32 = (number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(number)
  return bytes
}

// The first message's length in bytes, or null while the buffer doesn't hold all of it.
export const firstMessageLength = (buffer) => {
  if (buffer.length < HEADER_BYTES) return null
  const length = buffer.readInt32BE(TYPE_BYTES) + TYPE_BYTES
  return buffer.length < length ? null : length
}

// A startup message has no type byte: its length, then its code. Null while it isn't there as a whole.
export const firstStartup = (buffer) => {
  if (buffer.length < 8) return null
  const length = buffer.readInt32BE(0)
  return buffer.length < length ? null : { length, code: buffer.readInt32BE(4) }
}

function* messagesOf(buffer) {
  for (let length; (length = firstMessageLength(buffer)) !== null; buffer = buffer.subarray(length)) {
    yield buffer.subarray(0, length)
  }
}

// What the last ReadyForQuery ('Z') of a reply says: 'I' idle, 'T' in a transaction, 'E' in a failed one; null
// without any.
export const transactionStatus = (reply) => {
  let status = null
  for (const each of messagesOf(reply)) {
    if (typeOf(each) === 'Z') status = String.fromCharCode(bodyOf(each)[0])
  }
  return status
}

export const without = (type, reply) => Buffer.concat([...messagesOf(reply)].filter((each) => typeOf(each) !== type))

// What a server says after a startup message: let in without a password, its parameters, the key for cancelling,
// ready.
export const welcome = (connectionId, parameters) =>
  Buffer.concat([
    message('R', int32(0)),
    ...Object.entries(parameters).map(([name, value]) =>
      message('S', Buffer.concat([cString(name), cString(value)])),
    ),
    message('K', Buffer.concat([int32(connectionId), int32(0)])),
    message('Z', Buffer.from('I')),
  ])

// CopyInResponse without column formats: clients look only at the overall one.
export const copyInResponse = (binary) => message('G', Buffer.from([binary ? 1 : 0, 0, 0]))

export const closeStatement = (name) => message('C', Buffer.concat([Buffer.from('S'), cString(name)]))
export const sync = () => message('S')

// Whether it concerns a named prepared statement without running it: Parse, Describe or Close.
export const onlyPrepares = (whole) => {
  const body = bodyOf(whole)
  if (typeOf(whole) === 'P') return body[0] !== 0
  return 'DC'.includes(typeOf(whole)) && body[0] === 'S'.charCodeAt(0) && body[1] !== 0
}

// A client's message of the extended protocol with `prefix` before the names of its statements and portals. The
// unnamed ones stay unnamed. `opened` and `closed` are told the client's own names of prepared statements.
export const withPrivateNames = (whole, prefix, { opened, closed }) => {
  const type = typeOf(whole)
  const body = bodyOf(whole)
  const endOfString = (from) => body.indexOf(0, from)
  const prefixed = (name) => (name.length ? Buffer.concat([Buffer.from(prefix), name]) : name)

  switch (type) {
    case 'P': { // Parse: statement, query, types of its parameters
      const end = endOfString(0)
      if (end > 0) opened(body.subarray(0, end).toString())
      return message(type, Buffer.concat([prefixed(body.subarray(0, end)), body.subarray(end)]))
    }
    case 'B': { // Bind: portal, statement, parameters
      const endOfPortal = endOfString(0)
      const endOfStatement = endOfString(endOfPortal + 1)
      const portal = prefixed(body.subarray(0, endOfPortal))
      const statement = prefixed(body.subarray(endOfPortal + 1, endOfStatement))
      return message(type, Buffer.concat([portal, Buffer.from([0]), statement, body.subarray(endOfStatement)]))
    }
    case 'D': // Describe and Close: 'S' for a statement or 'P' for a portal, then its name
    case 'C': {
      const kind = body.subarray(0, 1)
      const name = body.subarray(1, endOfString(1))
      if (type === 'C' && kind.toString() === 'S') closed(name.toString())
      return message(type, Buffer.concat([kind, prefixed(name), Buffer.from([0])]))
    }
    case 'E': { // Execute: portal, number of rows
      const end = endOfString(0)
      return message(type, Buffer.concat([prefixed(body.subarray(0, end)), body.subarray(end)]))
    }
    default:
      return whole
  }
}
