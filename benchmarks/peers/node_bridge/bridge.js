// A bridge as users of npm mqtt and amqplib write it: QoS 1 in, confirmed persistent publishes out, and back.
// mqtt.js acknowledges a message when its handler returns, so this promises less than the gateway does.
//   node bridge.js MQTT_URL AMQP_URL DIRECTION SOURCE TARGET [SOURCE TARGET ...]
// DIRECTION is to-amqp (topic -> queue), to-mqtt (exchange -> topic), mqtt-only (topic -> topic), or to-amqp-confirmed:
// as to-amqp, but acknowledged when the broker has confirmed. mqtt.js then takes one message after the other.
const mqtt = require('mqtt');
const amqp = require('amqplib');

const [mqttUrl, amqpUrl, direction, ...pairs] = process.argv.slice(2);

async function main() {
  const connection = await amqp.connect(amqpUrl, { noDelay: true });
  const channel = await connection.createConfirmChannel();
  const client = await mqtt.connectAsync(mqttUrl, { protocolVersion: 5, clientId: 'node-bridge' });
  const routes = new Map();
  for (let i = 0; i < pairs.length; i += 2) routes.set(pairs[i], pairs[i + 1]);

  if (direction === 'to-amqp-confirmed') {
    for (const queue of routes.values()) await channel.assertQueue(queue, { durable: true });
    client.handleMessage = ({ topic, payload }, done) => {
      channel.sendToQueue(routes.get(topic), payload, { persistent: true, contentType: 'application/json' }, done);
    };
    for (const topic of routes.keys()) await client.subscribeAsync(topic, { qos: 1 });
  } else if (direction === 'mqtt-only') {
    client.on('message', (topic, payload) => client.publish(routes.get(topic), payload, { qos: 1 }));
    for (const topic of routes.keys()) await client.subscribeAsync(topic, { qos: 1 });
  } else if (direction === 'to-amqp') {
    for (const queue of routes.values()) await channel.assertQueue(queue, { durable: true });
    client.on('message', (topic, payload) => {
      channel.sendToQueue(routes.get(topic), payload, { persistent: true, contentType: 'application/json' });
    });
    for (const topic of routes.keys()) await client.subscribeAsync(topic, { qos: 1 });
  } else {
    await channel.prefetch(256);
    for (const [exchange, topic] of routes) {
      await channel.assertExchange(exchange, 'fanout', { durable: true });
      const { queue } = await channel.assertQueue(`node-bridge.${exchange}`, { durable: true });
      await channel.bindQueue(queue, exchange, '');
      await channel.consume(queue, (message) => {
        client.publish(topic, message.content, { qos: 1 }, (error) => {
          if (!error) channel.ack(message);
        });
      });
    }
  }
  console.log('bridge ready');
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
