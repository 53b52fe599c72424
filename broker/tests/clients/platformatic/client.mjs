// @platformatic/kafka with its usual settings, cooperative-sticky. Of the commands of live.py it knows `group`.
import { openSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, MessagesStreamFallbackModes, MessagesStreamModes } from '@platformatic/kafka'

const [command, brokers, topic, groupId, path] = process.argv.slice(2)
if (command !== 'group' || path === undefined) {
  console.error('usage: client.mjs group BROKERS TOPIC GROUP FILE')
  process.exit(2)
}
const file = openSync(path, 'w')
let ended = false
let consumer
process.on('SIGTERM', async () => {
  ended = true
  await consumer?.close(true).catch(() => {})
  process.exit(0)
})

while (!ended) {
  // What is thrown is a rebalance that the client gave up, or a broker that restarts: what was read comes again.
  try {
    await read()
  } catch (error) {
    console.error(`consume: ${error.message}`)
  }
  await consumer.close(true).catch(error => console.error(`close: ${error.message}`))
  await sleep(500)
}

async function read () {
  consumer = new Consumer({
    groupId,
    clientId: 'platformatic',
    bootstrapBrokers: brokers.split(','),
    protocols: [{ name: 'cooperative-sticky', version: 1 }],
    sessionTimeout: 6000,
    rebalanceTimeout: 10000,
    heartbeatInterval: 1000
  })
  const stream = await consumer.consume({
    topics: [topic],
    mode: MessagesStreamModes.COMMITTED,
    fallbackMode: MessagesStreamFallbackModes.EARLIEST,
    autocommit: false,
    maxWaitTime: 500
  })
  for await (const message of stream) {
    writeSync(file, `${message.partition} ${message.offset}\n`)
    // Commits of a partition that are under way together become one.
    message.commit().catch(error => console.error(`commit: ${error.message}`))
  }
}
