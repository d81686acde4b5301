//! GUP-12: a table goes to the graveyard through a flushed gather only.

use frame::TableFrame;
use pgtable::Graveyard;

fn case(graves: &Graveyard, table: TableFrame) {
    //= let _ = (graves, table);
    graves.bury(table); //~ E0624
}
