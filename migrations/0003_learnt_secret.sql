-- Secrets that come in a provider's handshake (Asana, Notion): one for each source, the first that came.
create table learnt_secret (
    source    text        primary key check (source <> ''),
    secret    text        not null check (secret <> ''),
    learnt_at timestamptz not null default now()
);
comment on table learnt_secret is 'The secret of a source with learn_secret, as its provider''s handshake brought it. In clear, since requests are verified with it.';
