//! The schema as the migrations leave it, held against tests/schema.sql. After a new migration:
//! HOOKONCE_DUMP_SCHEMA=1 cargo test schema

use crate::app::*;

const COLUMNS: &str = "select format('table %s: %s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then ' not null' else '' end, coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
   from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> '_sqlx_migrations'
  order by c.relname, a.attnum";
const CONSTRAINTS: &str = "select format('constraint %s on %s: %s', k.conname, c.relname, pg_get_constraintdef(k.oid))
   from pg_constraint k join pg_class c on c.oid = k.conrelid
  where k.connamespace = 'public'::regnamespace and not c.relispartition and k.contype <> 'n' and c.relname <> '_sqlx_migrations'
  order by c.relname, k.conname";
const INDEXES: &str =
    "select indexdef from pg_indexes i join pg_class c on c.relname = i.tablename and c.relnamespace = 'public'::regnamespace
  where schemaname = 'public' and not c.relispartition and tablename <> '_sqlx_migrations' order by tablename, indexname";
const FUNCTIONS: &str = "select format('function %s returns %s%s', p.oid::regprocedure, pg_get_function_result(p.oid),
        case when p.prosecdef then ' security definer, ' || array_to_string(p.proconfig, ', ') else '' end)
   from pg_proc p where p.pronamespace in ('public'::regnamespace, 'hookonce'::regnamespace) order by p.oid::regprocedure::text collate \"C\"";
const VIEWS: &str = "select format('view %s: %s', viewname, regexp_replace(definition, '\\s+', ' ', 'g')) from pg_views where schemaname = 'public'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_the_reviewed_one() {
    let pool = sqlx::PgPool::connect(&database().await)
        .await
        .expect("a database");
    let mut dump = String::new();
    for sql in [COLUMNS, CONSTRAINTS, INDEXES, VIEWS, FUNCTIONS] {
        let lines: Vec<String> = sqlx::query_scalar(sql)
            .fetch_all(&pool)
            .await
            .expect("the catalog");
        assert!(!lines.is_empty());
        for line in lines {
            dump += &line;
            dump.push('\n');
        }
        dump.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema.sql");
    if std::env::var_os("HOOKONCE_DUMP_SCHEMA").is_some() {
        std::fs::write(path, &dump).expect("the dump");
    }
    let reviewed = std::fs::read_to_string(path).expect("tests/schema.sql");
    assert_eq!(
        dump, reviewed,
        "the migrations give another schema: look at the difference, then dump it anew"
    );
}
