// The receiver that most people would write: Express reads and verifies, one transaction records the event, if it is new, with a job in pg-boss.
// Settings by environment: PORT, PGHOST (a socket's folder), PGUSER, PGDATABASE, SECRET, and HANDLER, the URL that a worker posts jobs to.
import { createHmac, timingSafeEqual } from 'node:crypto';
import express from 'express';
import pg from 'pg';
import PgBoss from 'pg-boss';

const { PORT, PGHOST, PGUSER, PGDATABASE, SECRET, HANDLER } = process.env;
const QUEUE = 'relay';
const TOLERANCE_SECONDS = 300;

const pool = new pg.Pool({ host: PGHOST, user: PGUSER, database: PGDATABASE, max: 20 });
await pool.query(`create table if not exists webhook_event (
  id text primary key, type text not null, body bytea not null, received_at timestamptz not null default now())`);
const boss = new PgBoss({ host: PGHOST, user: PGUSER, database: PGDATABASE });
boss.on('error', (error) => console.error(error));
await boss.start();
await boss.createQueue(QUEUE);

function verified(header, body) {
  const parts = new Map((header ?? '').split(',').map((part) => part.split('=', 2)));
  const time = Number(parts.get('t'));
  if (!(Math.abs(Date.now() / 1000 - time) <= TOLERANCE_SECONDS)) return false;
  const expected = createHmac('sha256', SECRET).update(`${parts.get('t')}.`).update(body).digest();
  const given = Buffer.from(parts.get('v1') ?? '', 'hex');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

async function record(event, body) {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const { rowCount } = await client.query({
      name: 'insert',
      text: 'insert into webhook_event (id, type, body) values ($1, $2, $3) on conflict (id) do nothing',
      values: [event.id, event.type, body],
    });
    if (rowCount === 1) {
      const db = { executeSql: (text, values) => client.query(text, values) };
      await boss.send(QUEUE, { id: event.id }, { db });
    }
    await client.query('commit');
    return rowCount === 1;
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

const app = express();
app.disable('x-powered-by');
app.post('/hooks/stripe', express.raw({ type: '*/*', limit: '1mb' }), async (request, response) => {
  if (!verified(request.headers['stripe-signature'], request.body)) return response.status(401).json({ status: 'refused' });
  const event = JSON.parse(request.body);
  response.json({ status: (await record(event, request.body)) ? 'accepted' : 'duplicate' });
});
app.listen(Number(PORT), '127.0.0.1', () => console.log('ready'));

if (HANDLER) {
  for (let worker = 0; worker < 4; worker++) {
    await boss.work(QUEUE, { batchSize: 100, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      const ids = jobs.map((job) => job.data.id);
      const { rows } = await pool.query('select id, body from webhook_event where id = any($1)', [ids]);
      await Promise.all(
        rows.map(async ({ id, body }) => {
          const answer = await fetch(HANDLER, { method: 'POST', body, headers: { 'hookonce-event-key': id } });
          await answer.arrayBuffer();
          if (!answer.ok) throw new Error(`answered ${answer.status}`);
        }),
      );
    });
  }
}
