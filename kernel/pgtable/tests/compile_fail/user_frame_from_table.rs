//! D17: a table does not become a user frame.

use frame::{TableFrame, UserFrame};

fn case(table: TableFrame, user: UserFrame) -> UserFrame {
    let _ = (&table, &user);
    //= user.into()
    table.into() //~ E0277
}
